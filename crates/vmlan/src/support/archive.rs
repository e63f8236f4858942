//! The archive as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Archives with the same date, and how far they are numbered.
const MOST_ALIKE: usize = 100;

/// A file of the archive.
#[derive(Debug)]
pub struct Part {
    /// Its path in the archive.
    pub name: String,
    /// Its octets.
    pub content: String,
}

/// `vmlan-support-DATE`, with the present moment in UTC.
pub fn default_name() -> String {
    let now = vmlan_api::Timestamp::now().to_string();
    let now = now.split('.').next().unwrap_or_default().replace(['-', ':'], "").replace('T', "-");
    format!("vmlan-support-{now}")
}

/// The place of an archive: a file that only its owner can read, and that is not there.
#[derive(Debug)]
pub struct Place(Vec<PathBuf>);

impl Place {
    /// The file at `path`. It is made and removed, so that nothing is collected in vain and nothing is left when the
    /// command is ended.
    ///
    /// # Errors
    /// Something is there, also a link to nothing, or no file can be made there.
    pub fn at(path: PathBuf) -> anyhow::Result<Place> {
        Place(vec![path]).tried()
    }

    /// The same with the usual name, and the first free number behind it where that is taken.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn usual(name: &str) -> anyhow::Result<Place> {
        let numbered = (2..=MOST_ALIKE).map(|number| format!("{name}-{number}.tar.gz").into());
        Place([format!("{name}.tar.gz").into()].into_iter().chain(numbered).collect()).tried()
    }

    fn tried(self) -> anyhow::Result<Place> {
        let (path, _) = self.make()?;
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        Ok(self)
    }

    /// Makes the file.
    fn make(&self) -> anyhow::Result<(&Path, File)> {
        for path in &self.0 {
            match create(path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                    return match parent.filter(|parent| !parent.is_dir()) {
                        Some(parent) => Err(anyhow::anyhow!("{} is not a directory", parent.display())),
                        None => Err(error).with_context(|| format!("cannot make {}", path.display())),
                    };
                }
            }
        }
        let first = self.0.first().map(|path| path.display().to_string()).unwrap_or_default();
        anyhow::bail!("{first} is there already; name another file with --output")
    }

    /// Writes the archive, and tells where it is.
    ///
    /// # Errors
    /// Something is there meanwhile, or it cannot be written; a half one is removed.
    pub fn write(&self, directory: &str, parts: &[Part]) -> anyhow::Result<&Path> {
        let (path, file) = self.make()?;
        let written = pack(&file, directory, parts).and_then(|()| file.sync_all());
        written.with_context(|| format!("cannot write {}", path.display())).inspect_err(|_| {
            // The error that is told is the one of writing.
            let _ = std::fs::remove_file(path);
        })?;
        Ok(path)
    }
}

/// Makes a file that was not there; `O_EXCL` follows no link.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes the archive, without a file of its own.
///
/// # Errors
/// It cannot be written.
pub fn pack(file: impl Write, directory: &str, parts: &[Part]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut archive = tar::Builder::new(GzEncoder::new(io::BufWriter::new(file), Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(part.content.len() as u64);
        let path = PathBuf::from(directory).join(&part.name);
        archive.append_data(&mut header, path, part.content.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_what_is_not_there_is_written_and_only_for_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("taken"), "mine").expect("a file");
        symlink(path("nothing"), path("link")).expect("a link");
        let parts = [Part { name: "a/b.txt".into(), content: "text".into() }];
        for name in ["taken", "link"] {
            let refused = Place::at(path(name)).expect_err("a place that is taken");
            assert!(refused.to_string().contains("is there already"), "{name}: {refused}");
        }
        let refused = Place::at(path("no/file")).expect_err("no directory");
        assert!(refused.to_string().contains("is not a directory"), "{refused}");
        assert!(!path("nothing").exists());
        assert_eq!(std::fs::read_to_string(path("taken")).expect("the file"), "mine");

        let place = Place::at(path("new")).expect("a free place");
        assert!(!path("new").exists(), "without an archive there is no file");
        place.write("d", &parts).expect("an archive");
        assert_eq!(path("new").metadata().expect("the archive").permissions().mode() & 0o777, 0o600);
        let file = File::open(path("new")).expect("the archive");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut entries = archive.entries().expect("entries");
        let mut entry = entries.next().expect("an entry").expect("a whole entry");
        assert_eq!(entry.path().expect("a path").to_str(), Some("d/a/b.txt"));
        assert_eq!(io::read_to_string(&mut entry).expect("text"), "text");
        assert!(entries.next().is_none());
    }

    #[test]
    fn those_of_one_moment_have_numbers() {
        let directory = tempfile::tempdir().expect("a directory");
        let name = directory.path().join("it").to_str().expect("text").to_owned();
        for expected in ["it.tar.gz", "it-2.tar.gz", "it-3.tar.gz"] {
            let place = Place::usual(&name).expect("a free place");
            assert!(place.write("it", &[]).expect("an archive").ends_with(expected), "{place:?}");
        }
    }

    #[test]
    fn the_name_has_the_date_and_nothing_to_quote() {
        let name = default_name();
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        assert!(name.len() == "vmlan-support-20260301-120000".len() && name.bytes().all(is_plain), "{name}");
    }
}
