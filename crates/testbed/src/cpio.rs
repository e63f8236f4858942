//! Writer of the archive format that the Linux kernel takes as initial file system ("newc";
//! Linux Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive under construction. The directories that a file is in are made with it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    octets: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a directory, if it is not there, after those it is in; the path has no leading slash.
    pub(crate) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, &[]);
        }
    }

    /// Adds a file with its permission bits.
    ///
    /// # Panics
    /// When the content is 4 GiB or larger, which the format cannot say.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | permissions, content);
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    /// The archive with its closing entry.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.octets
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let size =
            u32::try_from(content.len()).expect("a file of the initial file system is smaller than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        self.entries += 1;
        // inode, mode, uid, gid, links, mtime, size, device major and minor, rdev major and minor, name size, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.octets.extend_from_slice(path.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_name_and_content_are_aligned_to_four() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"hello");

        let octets = archive.finish();

        let header = "070701\
            00000001000081ED0000000000000000000000010000000000000005\
            00000000000000000000000000000000\
            0000000500000000";
        assert_eq!(std::str::from_utf8(&octets[..110]), Ok(header));
        assert_eq!(&octets[110..116], b"init\0\0".as_slice());
        assert_eq!(&octets[116..124], b"hello\0\0\0".as_slice());
        assert_eq!(&octets[124..130], b"070701".as_slice());
        assert_eq!(octets.len() % 4, 0);
    }

    #[test]
    fn the_archive_ends_with_the_trailer() {
        let octets = Archive::default().finish();

        assert_eq!(&octets[110..120], TRAILER.as_bytes());
        assert_eq!(octets.len(), 124);
    }

    #[test]
    fn gnu_cpio_reads_the_archive_back() {
        crate::require!(tool("cpio"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("bin/odd", 0o640, b"seven..");
        archive.file("lib/deep/odd", 0o640, b"nine...");
        archive.file("empty", 0o600, b"");
        let path = directory.path().join("archive");
        std::fs::write(&path, archive.finish()).expect("the archive");

        let mut cpio = std::process::Command::new("cpio");
        cpio.args(["--quiet", "-idF"]).arg(&path).current_dir(directory.path());
        crate::run(cpio, std::time::Duration::from_secs(20)).expect_success();

        assert_eq!(std::fs::read(directory.path().join("bin/odd")).expect("bin/odd"), b"seven..");
        assert_eq!(std::fs::read(directory.path().join("lib/deep/odd")).expect("lib/deep/odd"), b"nine...");
        assert_eq!(std::fs::read(directory.path().join("empty")).expect("empty"), b"");
    }
}
