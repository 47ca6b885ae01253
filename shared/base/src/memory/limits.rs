//! The limits that Linux tells of: each as the bytes that are left under it.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Source of the kernel's files and limits; tests bring their own.
pub(super) trait Kernel {
    /// Content of a file of the kernel; `None` where there is no such file.
    fn read(&self, path: &Path) -> Option<String>;
    /// Soft limit of a resource, in bytes; `None` if there is none.
    fn limit(&self, resource: Resource) -> Option<u64>;
}

/// The kernel that this runs on.
pub(super) struct System;

impl Kernel for System {
    fn read(&self, path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn limit(&self, resource: Resource) -> Option<u64> {
        getrlimit(resource).current
    }
}

/// Bytes left under the tightest limit.
pub(super) fn tightest(kernel: &impl Kernel) -> Option<u64> {
    [machine(kernel), address_space(kernel), unified(kernel), legacy(kernel)].into_iter().flatten().min()
}

/// Bytes of `MemAvailable`: what the machine can give without swapping.
fn machine(kernel: &impl Kernel) -> Option<u64> {
    kilobytes(&kernel.read(Path::new("/proc/meminfo"))?, "MemAvailable:")
}

/// Bytes left under `ulimit -v` and `ulimit -d`. A quarter of the address space is left to threads, which take some
/// tens of megabytes of it each for their heaps and stacks, whether or not they use them.
fn address_space(kernel: &impl Kernel) -> Option<u64> {
    let limits = [(Resource::As, "VmSize:", 4), (Resource::Data, "VmData:", u64::MAX)];
    let limits = limits.map(|(resource, used, share)| {
        let limit = kernel.limit(resource)?;
        Some((limit - limit / share, used))
    });
    let mut limits = limits.into_iter().flatten().peekable();
    limits.peek()?;
    let status = kernel.read(Path::new("/proc/self/status"))?;
    limits.map(|(limit, used)| limit.saturating_sub(kilobytes(&status, used).unwrap_or(0))).min()
}

/// Value of a line like `VmSize:   1024 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Bytes left under control groups of version 2.
fn unified(kernel: &impl Kernel) -> Option<u64> {
    let path = group(kernel, |controllers, id| id == "0" && controllers.is_empty())?;
    let files =
        Files { limit: "memory.max", used: "memory.current", cached: ["inactive_file", "active_file"] };
    left(kernel, "/sys/fs/cgroup", &path, &files)
}

/// Bytes left under control groups of version 1.
fn legacy(kernel: &impl Kernel) -> Option<u64> {
    let path = group(kernel, |controllers, _| controllers.split(',').any(|name| name == "memory"))?;
    let files = Files {
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cached: ["total_inactive_file", "total_active_file"],
    };
    left(kernel, "/sys/fs/cgroup/memory", &path, &files)
}

/// The path of this process's group, by its line `id:controllers:path`.
fn group(kernel: &impl Kernel, is_wanted: impl Fn(&str, &str) -> bool) -> Option<String> {
    let text = kernel.read(Path::new("/proc/self/cgroup"))?;
    text.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is_wanted(controllers, id).then(|| path.to_owned())
    })
}

/// Names of a control group's files.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that count pages of files, which the kernel takes back when it has to.
    cached: [&'static str; 2],
}

/// Bytes left in a control group and in every group around it. Inside a container `path` may be that of the host,
/// which is not there; the container's own group is then the root.
fn left(kernel: &impl Kernel, root: &str, path: &str, files: &Files) -> Option<u64> {
    let relative = Path::new(path.trim_start_matches('/'));
    let above = relative.ancestors().map(|part| Path::new(root).join(part));
    above.filter_map(|dir| left_in(kernel, &dir, files)).min()
}

fn left_in(kernel: &impl Kernel, dir: &Path, files: &Files) -> Option<u64> {
    let number = |name: &str| -> Option<u64> { kernel.read(&dir.join(name))?.trim().parse().ok() };
    // "max" is no number: no limit. Version 1 writes a number of exabytes instead.
    let limit = number(files.limit).filter(|limit| *limit < 1 << 60)?;
    let used = number(files.used)?;
    let stat = kernel.read(&stat_of(dir)).unwrap_or_default();
    let line = |name: &str| {
        let number = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok();
        stat.lines().find_map(number)
    };
    let cached: u64 = files.cached.iter().filter_map(|name| line(name)).sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

fn stat_of(dir: &Path) -> PathBuf {
    dir.join("memory.stat")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A made-up kernel.
    #[derive(Default)]
    struct Told {
        files: HashMap<&'static str, &'static str>,
        address_space: Option<u64>,
        data: Option<u64>,
    }

    impl Kernel for Told {
        fn read(&self, path: &Path) -> Option<String> {
            self.files.get(path.to_str()?).map(|text| (*text).to_owned())
        }

        fn limit(&self, resource: Resource) -> Option<u64> {
            match resource {
                Resource::As => self.address_space,
                Resource::Data => self.data,
                _ => None,
            }
        }
    }

    fn told(files: &[(&'static str, &'static str)]) -> Told {
        Told { files: files.iter().copied().collect(), ..Told::default() }
    }

    #[test]
    fn a_kernel_that_tells_nothing_sets_no_limit() {
        assert_eq!(tightest(&told(&[])), None);
        assert_eq!(tightest(&told(&[("/proc/meminfo", "MemFree: 5 kB\n")])), None);
    }

    #[test]
    fn the_machines_memory_is_what_is_available() {
        let kernel =
            told(&[("/proc/meminfo", "MemTotal:  900 kB\nMemFree:  10 kB\nMemAvailable:   300 kB\n")]);
        assert_eq!(tightest(&kernel), Some(300 << 10));
    }

    #[test]
    fn limits_of_the_shell_count_what_is_mapped() {
        let status = [("/proc/self/status", "VmPeak:  99 kB\nVmSize:\t    40 kB\nVmData:\t    30 kB\n")];
        let space = Told { address_space: Some(100 << 10), ..told(&status) };
        assert_eq!(tightest(&space), Some(35 << 10));
        let data = Told { data: Some(50 << 10), ..told(&status) };
        assert_eq!(tightest(&data), Some(20 << 10));
        let both = Told { address_space: Some(30 << 10), data: Some(50 << 10), ..told(&status) };
        assert_eq!(tightest(&both), Some(0), "more is mapped than may be");
    }

    #[test]
    fn a_group_of_version_2_is_as_tight_as_the_tightest_above_it() {
        let mut files = vec![
            ("/proc/self/cgroup", "0::/factory/agent\n"),
            ("/sys/fs/cgroup/factory/agent/memory.max", "max\n"),
            ("/sys/fs/cgroup/factory/agent/memory.current", "1000\n"),
            ("/sys/fs/cgroup/factory/memory.max", "5000\n"),
            ("/sys/fs/cgroup/factory/memory.current", "4000\n"),
        ];
        assert_eq!(tightest(&told(&files)), Some(1000));
        files.push(("/sys/fs/cgroup/factory/memory.stat", "anon 1\ninactive_file 2000\nactive_file 500\n"));
        assert_eq!(tightest(&told(&files)), Some(3500), "pages of files are given back");
    }

    #[test]
    fn a_container_that_sees_the_hosts_path_finds_its_own_group_at_the_root() {
        let v2 = told(&[
            ("/proc/self/cgroup", "0::/docker/0123\n"),
            ("/sys/fs/cgroup/memory.max", "400\n"),
            ("/sys/fs/cgroup/memory.current", "100\n"),
        ]);
        assert_eq!(tightest(&v2), Some(300));
        let v1 = told(&[
            ("/proc/self/cgroup", "9:name=systemd:/\n4:memory,cpu:/docker/0123\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "300\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 50\n"),
        ]);
        assert_eq!(tightest(&v1), Some(250));
        let without = told(&[
            ("/proc/self/cgroup", "4:memory:/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "300\n"),
        ]);
        assert_eq!(tightest(&without), None);
    }
}
