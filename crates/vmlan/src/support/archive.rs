//! The archive as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;

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

/// Refuses a place that is taken, by whatever, also by a link to nothing.
///
/// # Errors
/// Something is there, or its directory cannot be looked at.
pub fn check_free(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => anyhow::bail!("{} is there already; name another file with --output", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
                anyhow::bail!("{} is not a directory", parent.display())
            }
            _ => Ok(()),
        },
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Writes a file that was not there and that only its owner can read. A half one is removed.
///
/// # Errors
/// Something is there meanwhile, or it cannot be written.
pub fn write(path: &Path, directory: &str, parts: &[Part]) -> anyhow::Result<()> {
    // `O_EXCL` follows no link.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    pack(file, directory, parts).with_context(|| format!("cannot write {}", path.display())).inspect_err(
        |_| {
            // The error that is told is the one of writing.
            let _ = std::fs::remove_file(path);
        },
    )
}

fn pack(file: File, directory: &str, parts: &[Part]) -> io::Result<()> {
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
    file.flush()?;
    file.get_ref().sync_all()
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
            assert!(check_free(&path(name)).is_err() && write(&path(name), "d", &parts).is_err(), "{name}");
        }
        assert!(check_free(&path("no/file")).is_err());
        assert!(!path("nothing").exists());
        assert_eq!(std::fs::read_to_string(path("taken")).expect("the file"), "mine");

        check_free(&path("new")).expect("a free place");
        write(&path("new"), "d", &parts).expect("an archive");
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
    fn the_name_has_the_date_and_nothing_to_quote() {
        let name = default_name();
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        assert!(name.len() == "vmlan-support-20260301-120000".len() && name.bytes().all(is_plain), "{name}");
    }
}
