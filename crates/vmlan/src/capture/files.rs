//! The file of a capture, or one file after the other.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pcap_file::pcapng::Block;

use super::blocks::Piece;

/// Writes blocks to a file, or to files of limited size, each of which is whole by itself.
///
/// A file that cannot be written on, because the disk is full for instance, ends with its last whole block.
pub struct Files {
    path: PathBuf,
    /// Octets after which another file begins.
    rotate: Option<u64>,
    file: File,
    /// How many files there are.
    count: u32,
    /// Octets that are in the file.
    len: u64,
    /// Section header and interfaces, with which every file begins.
    head: Vec<u8>,
    /// Blocks that are not in the file yet, and how many frames they hold.
    pending: Vec<u8>,
    pending_frames: u64,
    /// Frames in this file, those that are pending included.
    frames: u64,
    /// Frames that are in files.
    written: u64,
}

impl Files {
    /// Creates the file, or the first one.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path, rotate: Option<u64>) -> io::Result<Files> {
        let file = File::create(name(path, rotate, 1))?;
        let (head, pending) = (Vec::new(), Vec::new());
        let path = path.to_owned();
        Ok(Files {
            path,
            rotate,
            file,
            count: 1,
            len: 0,
            head,
            pending,
            pending_frames: 0,
            frames: 0,
            written: 0,
        })
    }

    /// The file that is written now.
    pub fn path(&self) -> PathBuf {
        name(&self.path, self.rotate, self.count)
    }

    /// How many files there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Frames that are in files.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes a block. It is in the file after the next flush.
    ///
    /// # Errors
    /// The system's, of this block or those before it.
    pub fn block(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        match piece.block {
            None | Some(Block::InterfaceDescription(_)) => self.head.extend_from_slice(piece.octets),
            Some(Block::EnhancedPacket(_)) => {
                let len = self.len + (self.pending.len() + piece.octets.len()) as u64;
                if self.frames > 0 && self.rotate.is_some_and(|rotate| len > rotate) {
                    self.next()?;
                }
                self.frames += 1;
                self.pending_frames += 1;
            }
            Some(_) => {}
        }
        self.pending.extend_from_slice(piece.octets);
        Ok(())
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// The system's; then what was pending is not in the file.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.file.write_all(&self.pending);
        match result {
            Ok(()) => {
                self.len += self.pending.len() as u64;
                self.written += self.pending_frames;
            }
            // Fails on what is no file, where there is nothing to cut.
            Err(_) => drop(self.file.set_len(self.len)),
        }
        self.pending.clear();
        self.pending_frames = 0;
        result
    }

    fn next(&mut self) -> io::Result<()> {
        self.flush()?;
        self.count += 1;
        self.file = File::create(self.path())?;
        self.len = 0;
        self.frames = 0;
        self.pending.extend_from_slice(&self.head);
        Ok(())
    }
}

/// `lab.pcapng`, or `lab-0001.pcapng` and so on.
fn name(path: &Path, rotate: Option<u64>, number: u32) -> PathBuf {
    if rotate.is_none() {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number:04}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::super::blocks::Blocks;
    use super::*;

    /// A section, an interface and `count` frames of 100 octets each, 136 with their block.
    fn capture(count: u32) -> Vec<u8> {
        let mut file = Vec::new();
        let mut block = |kind: u32, body: &[u8]| {
            let len = (body.len() as u32 + 12).to_be_bytes();
            for part in [&kind.to_be_bytes()[..], &len, body, &len] {
                file.extend_from_slice(part);
            }
        };
        let no_length = [0xff; 8];
        block(0x0a0d_0d0a, &[&[0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0][..], &no_length].concat());
        block(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
        for number in 0..count {
            let mut body = [0; 20 + 100];
            body[8..12].copy_from_slice(&number.to_be_bytes());
            body[12..20].copy_from_slice(&[0, 0, 0, 100, 0, 0, 0, 100]);
            block(6, &body);
        }
        file
    }

    /// Gives blocks to `files` and flushes.
    fn fill(files: &mut Files, capture: &[u8]) -> io::Result<()> {
        let mut blocks = Blocks::default();
        blocks.push(capture);
        while let Some(piece) = blocks.next().expect("a good capture") {
            files.block(&piece)?;
        }
        files.flush()
    }

    #[test]
    fn one_file_is_what_came() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lab.pcapng");
        let mut files = Files::create(&path, None).expect("a file");

        fill(&mut files, &capture(5)).expect("room");

        assert_eq!((files.written(), files.count(), files.path()), (5, 1, path.clone()));
        assert_eq!(std::fs::read(path).expect("the file"), capture(5));
    }

    #[test]
    fn files_of_limited_size_are_each_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lab.pcapng");
        // The head has 48 octets: room for two frames a file.
        let mut files = Files::create(&path, Some(48 + 2 * 132)).expect("a file");

        fill(&mut files, &capture(5)).expect("room");

        assert_eq!((files.written(), files.count()), (5, 3));
        let mut frames = 0;
        for number in 1..=3 {
            let octets =
                std::fs::read(directory.path().join(format!("lab-000{number}.pcapng"))).expect("a file");
            assert_eq!(octets[..48], capture(0)[..]);
            frames += (octets.len() - 48) / 132;
        }
        assert_eq!((frames, std::fs::read_dir(directory.path()).expect("a directory").count()), (5, 3));
    }

    #[test]
    fn a_frame_larger_than_the_limit_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files = Files::create(&directory.path().join("lab"), Some(10)).expect("a file");

        fill(&mut files, &capture(3)).expect("room");

        assert_eq!((files.written(), files.count(), files.path()), (3, 3, directory.path().join("lab-0003")));
    }

    #[test]
    fn what_cannot_be_written_is_not_counted() {
        let mut files = Files::create(Path::new("/dev/full"), None).expect("a device");

        let result = fill(&mut files, &capture(3));

        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        assert_eq!(files.written(), 0);
    }
}
