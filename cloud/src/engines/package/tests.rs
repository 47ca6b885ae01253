use std::io::Cursor;

use super::*;

/// Files in a wheel, by their whole names.
fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn release(members: &[(&str, &[u8])]) -> Vec<u8> {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut writer = tar::Builder::new(packed);
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Whatever the name is: the writer would refuse one that leads out.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        writer.append(&header, *content).unwrap();
    }
    writer.into_inner().unwrap().finish().unwrap()
}

/// Takes it from a file of that name; what was written, by name.
fn taken(name: &str, content: &[u8]) -> (Result<Taken, String>, Vec<String>) {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join(name);
    std::fs::write(&path, content).unwrap();
    let taken = take(&path, into.path()).map_err(|error| error.to_string());
    let entries = std::fs::read_dir(into.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_str().unwrap().to_owned()).collect();
    names.sort();
    (taken, names)
}

#[test]
fn of_a_wheel_and_of_a_release_only_the_libraries_are_taken() {
    let library = elf_head("");
    let members: [(&str, &[u8]); 4] = [
        ("onnxruntime/capi/libonnxruntime.so.1.32.0", &library),
        ("onnxruntime/capi/libonnxruntime_providers_shared.so", b"shared"),
        ("onnxruntime/capi/onnxruntime_pybind11_state.so", b"python"),
        ("onnxruntime-1.32.0.dist-info/RECORD", b"libonnxruntime.so"),
    ];
    for (name, content) in [("a.whl", wheel(&members)), ("a.tgz", release(&members))] {
        let (taken, names) = taken(name, &content);
        let taken = taken.unwrap();
        assert_eq!(
            (taken.version.to_string().as_str(), taken.library.as_str()),
            ("1.32.0", names[0].as_str())
        );
        assert_eq!(taken.library_sha256, hex(&Sha256::digest(&library)));
        assert_eq!(taken.source_sha256, Some(hex(&Sha256::digest(&content))));
        assert_eq!(names, ["libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so"], "{name}");
    }
    let (taken, _) = taken("libonnxruntime.so.1.30.2", &library);
    assert_eq!(taken.unwrap().version.to_string(), "1.30.2");
}

#[test]
fn what_would_lead_out_of_the_folder_lands_in_it() {
    let library = elf_head("");
    let out = "../../../../libonnxruntime.so.1.32.0";
    for content in [wheel(&[(out, &library)]), release(&[(out, &library)])] {
        let (taken, names) = taken("a", &content);
        assert_eq!((taken.unwrap().version.minor, names), (32, vec!["libonnxruntime.so.1.32.0".to_owned()]));
    }
    assert!(is_wanted("libonnxruntime_providers_tensorrt.so"));
    for name in ["libonnxruntime.so.\u{1f600}", "libonnxruntime.so.a b", "libonnxruntime4j_jni.so", "..", ""]
    {
        assert!(!is_wanted(name), "{name}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let library = elf_head("");
    let mut other = library.clone();
    other[18..20].copy_from_slice(&40_u16.to_le_bytes());
    let name = "onnxruntime/capi/libonnxruntime.so.1.32.0";
    let mut cut = wheel(&[(name, &library)]);
    cut.truncate(cut.len() - 30);
    let cases: [(Vec<u8>, &str); 8] = [
        (wheel(&[("onnxruntime/capi/libonnxruntime.1.32.0.dylib", b"mac")]), "macOS"),
        (wheel(&[(name, &library), ("lib/libonnxruntime.so.1.32.0", &library)]), "twice"),
        (wheel(&[(name, &library), ("lib/libonnxruntime.so.1.31.0", &library)]), "more than one"),
        (wheel(&[(name, &other)]), "another kind of machine"),
        (wheel(&[(name, b"no library")]), "no ELF"),
        (wheel(&[("a/libonnxruntime.so", &library)]), "its version is not known"),
        (cut, "a: "),
        (b"words".to_vec(), "is no wheel"),
    ];
    for (content, words) in cases {
        let (taken, _) = taken("a", &content);
        let error = taken.unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn no_more_is_unpacked_than_there_is_room_for() {
    let into = tempfile::tempdir().unwrap();
    let mut taking = Taking { left: 10, ..Taking::new(into.path()) };
    taking.take("libonnxruntime.so", &mut &[0; 8][..]).unwrap();
    let error = taking.take("libonnxruntime_providers_cuda.so", &mut &[0; 1_000][..]).unwrap_err();
    assert!(
        error.to_string().contains("libonnxruntime_providers_cuda.so is more than the 2 bytes"),
        "{error}"
    );
    let written = into.path().join("libonnxruntime_providers_cuda.so").metadata().unwrap().len();
    assert_eq!(written, 3, "not a byte more than tells that it is too much");
}

#[test]
fn a_folder_is_a_library_s_a_package_s_or_one_with_a_wheel() {
    let (given, into) = (tempfile::tempdir().unwrap(), || tempfile::tempdir().unwrap());
    let error = take(given.path(), into().path()).unwrap_err().to_string();
    assert!(error.contains("neither"), "{error}");
    let wheel = wheel(&[("onnxruntime/capi/libonnxruntime.so.1.30.0", &elf_head(""))]);
    std::fs::write(given.path().join("onnxruntime-1.30.0-cp311.whl"), &wheel).unwrap();
    assert_eq!(take(given.path(), into().path()).unwrap().version.minor, 30);
    std::fs::write(given.path().join("onnxruntime-1.31.0-cp311.whl"), &wheel).unwrap();
    let error = take(given.path(), into().path()).unwrap_err().to_string();
    assert!(error.contains("several"), "{error}");
    let inside = given.path().join("onnxruntime/capi");
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(inside.join("libonnxruntime.so.1.32.0"), elf_head("")).unwrap();
    std::os::unix::fs::symlink("libonnxruntime.so.1.32.0", inside.join("libonnxruntime.so")).unwrap();
    let taken = take(given.path(), into().path()).unwrap();
    assert_eq!((taken.version.minor, taken.source_sha256), (32, None));
}

#[test]
fn small_packages_that_would_unpack_to_gigabytes_are_refused() {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut writer = tar::Builder::new(packed);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(2 << 30);
    header.set_cksum();
    writer.append(&header, &[b'a'; 1024][..]).unwrap();
    let named = writer.into_inner().unwrap().finish().unwrap();
    let (taken_of_it, _) = taken("a.tgz", &named);
    let error = taken_of_it.unwrap_err();
    assert!(error.contains("2147483648 bytes") || error.contains("67108864 bytes"), "{error}");

    let zeros = vec![0; 80 << 20];
    let name = "onnxruntime/capi/libonnxruntime.so.1.32.0";
    for (file, content) in [("a.whl", wheel(&[(name, &zeros)])), ("a.tgz", release(&[(name, &zeros)]))] {
        let (taken_of_it, _) = taken(file, &content);
        let error = taken_of_it.unwrap_err();
        assert!(error.contains(" bytes that "), "{file}, {} bytes: {error}", content.len());
    }
    let dir = tempfile::tempdir().unwrap();
    let (sparse, into) = (dir.path().join("a.whl"), tempfile::tempdir().unwrap());
    File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    let error = take(&sparse, into.path()).unwrap_err().to_string();
    assert!(error.contains("a.whl: is 1099511627776 bytes"), "{error}");
}

#[test]
fn a_version_is_found_wherever_it_stands_in_a_library() {
    const PIECE: usize = 1 << 20;
    for at in [0, 100, PIECE - 12, PIECE - 3, PIECE, 2 * PIECE - 30, 3 * PIECE] {
        let mut library = vec![1; at];
        library.extend_from_slice(b"VERS_1.32.0\0");
        assert_eq!(version_in(&mut &*library).unwrap().unwrap().minor, 32, "at {at}");
    }
    assert_eq!(version_in(&mut &b"VERS_"[..]).unwrap(), None);
    assert_eq!(version_in(&mut io::repeat(1).take(3 << 20)).unwrap(), None);
}
