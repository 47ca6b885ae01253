//! Bundles that are broken on purpose: a copy of the shipped one with one thing changed.

use std::path::{Path, PathBuf};

use millgate_shared::digest::sha256_hex;

/// A copy; removed when dropped.
#[derive(Debug)]
pub struct Copy {
    dir: tempfile::TempDir,
}

impl Default for Copy {
    fn default() -> Self {
        Self::new()
    }
}

impl Copy {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        copy(&crate::bundle(), dir.path());
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn text_path(&self) -> &str {
        self.path().to_str().expect("a plain path")
    }

    pub fn file(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    /// Changes the manifest's text.
    pub fn manifest(self, from: &str, to: &str) -> Self {
        let path = self.file("bundle.toml");
        let text = std::fs::read_to_string(&path).expect("a manifest");
        assert!(text.contains(from), "the manifest has no `{from}`");
        std::fs::write(path, text.replacen(from, to, 1)).expect("written");
        self
    }

    /// Changes a file and leaves its digest as it was.
    pub fn tampered(self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let path = self.file(file);
        let mut bytes = std::fs::read(&path).expect("a file of the bundle");
        change(&mut bytes);
        std::fs::write(path, bytes).expect("written");
        self
    }

    /// Changes a file and corrects its digest, as one does who builds a bad bundle in good faith.
    pub fn rebuilt(self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let digest = |this: &Self| sha256_hex(&std::fs::read(this.file(file)).expect("a file of the bundle"));
        let before = digest(&self);
        let this = self.tampered(file, change);
        let after = digest(&this);
        assert_ne!(before, after, "nothing was changed");
        this.manifest(&before, &after)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("typed").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
