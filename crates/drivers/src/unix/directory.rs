use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, Gid, Mode, OFlags, Stat, fchmod, fchown, fstat, mkdirat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::{Access, Error, Identity, Node, not_given, platform, system};

/// A directory that is held open: names are looked up in this very directory, whatever has its path meanwhile.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// A name for a socket in a directory.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
}

impl Place {
    /// The place of `path`, whose directory has to be there.
    ///
    /// # Errors
    /// [`Error::NoDirectory`], [`Error::InTheWay`] for a path without a name, and what the system says.
    pub fn of(path: &Path) -> Result<Place, Error> {
        let name = path.file_name().ok_or_else(|| Error::InTheWay { path: path.into() })?;
        Ok(Place { directory: Arc::new(Directory::open(parent(path))?), name: name.into() })
    }

    /// The path that a socket there is bound to.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    /// The file that is there, not followed where it is a symbolic link.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    pub fn find(&self) -> io::Result<Node> {
        self.directory.find(&self.name)
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// The directory that `path` is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A directory that was made here; removed when dropped, unless something is in it.
#[derive(Debug)]
pub struct MadeDirectory {
    parent: Directory,
    name: OsString,
    identity: Identity,
}

impl Drop for MadeDirectory {
    fn drop(&mut self) {
        // Others may have put something there, which is theirs.
        if self.parent.identity_of(&self.name).is_ok_and(|found| found == self.identity) {
            let _ = unlinkat(&self.parent.fd, &self.name, AtFlags::REMOVEDIR);
        }
    }
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`Error::NoDirectory`], and what the system says.
    pub fn open(path: &Path) -> Result<Directory, Error> {
        let opened = openat(CWD, path, platform::DIRECTORY, Mode::empty());
        let fd = opened.map_err(|source| match source {
            Errno::NOENT => Error::NoDirectory { path: path.into() },
            source => system("open the directory", path, source),
        })?;
        Ok(Directory { fd, path: path.into() })
    }

    /// Opens the directory at `path` for sockets with `access`, or makes it. Where others may write, nobody but its
    /// owner removes or renames a file in it (the sticky bit). It is ours whoever owns the sockets, for a directory's
    /// owner can exchange what is in it. Nothing but a directory is followed at the end of the path.
    ///
    /// # Errors
    /// [`Error::Unsafe`] when the directory is there and others than us and root could exchange what is made in it;
    /// [`Error::NoDirectory`] for the one that it shall be in; and what the system says.
    pub fn open_or_make(
        path: &Path,
        access: Access,
    ) -> Result<(Arc<Directory>, Option<MadeDirectory>), Error> {
        let place = Place::of(path)?;
        let made = match mkdirat(&place.directory.fd, &place.name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(source) => return Err(system("make the directory", path, source)),
        };
        // To be read by us where it is ours, and so that its mode can be set.
        let flags = if made { OFlags::DIRECTORY | OFlags::CLOEXEC } else { platform::DIRECTORY };
        let opened = openat(&place.directory.fd, &place.name, flags | OFlags::NOFOLLOW, Mode::empty());
        let fd = opened.map_err(|source| match source {
            Errno::NOTDIR | Errno::LOOP => Error::Unsafe {
                path: path.into(),
                reason: "it is no directory, or a symbolic link to one".into(),
                cure: "name a directory".into(),
            },
            source => system("open the directory", path, source),
        })?;
        let directory = Directory { fd, path: path.into() };
        directory.check_owner()?;
        if !made {
            directory.check_mode(Mode::WGRP | Mode::WOTH)?;
            return Ok((Arc::new(directory), None));
        }
        let identity = Identity::of(&directory.stat()?);
        let parent = Arc::into_inner(place.directory).expect("nothing else has it");
        let made = MadeDirectory { parent, name: place.name, identity };
        if let Some(group) = access.group {
            let given = fchown(&directory.fd, None, Some(Gid::from_raw(group)));
            given.map_err(|error| not_given(path, None, Some(group), error))?;
        }
        let set = fchmod(&directory.fd, for_sockets(access));
        set.map_err(|source| system("set the permissions of", path, source))?;
        Ok((Arc::new(directory), Some(made)))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place for a socket in it.
    pub fn place(self: &Arc<Self>, name: impl Into<OsString>) -> Place {
        Place { directory: self.clone(), name: name.into() }
    }

    /// The file of this name, not followed where it is a symbolic link.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    pub fn find(&self, name: &OsStr) -> io::Result<Node> {
        Ok(Node::find(&self.fd, name)?)
    }

    /// The names of all that is in it.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        // What only names a directory (`O_PATH`) cannot be read.
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(openat(&self.fd, ".", readable, Mode::empty())?)? {
            names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }

    /// Removes the file of this name if it is `node`.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn remove(&self, name: &OsStr, node: &Node) -> io::Result<()> {
        Ok(self.remove_if(name, node.identity()?)?)
    }

    /// A file that is exchanged between the look and the removal can only be one that its owner could have removed as
    /// well: where others may exchange ours, the directory is theirs.
    pub(super) fn remove_if(&self, name: &OsStr, identity: Identity) -> rustix::io::Result<()> {
        match self.identity_of(name) {
            Ok(found) if found == identity => unlinkat(&self.fd, name, AtFlags::empty()),
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn identity_of(&self, name: &OsStr) -> rustix::io::Result<Identity> {
        Ok(Identity::of(&statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Moves out of the way what another user than us, root and `owner` has put at `name`, and answers whether there
    /// was something. That takes a directory that is ours; in another one, nothing happens.
    pub fn evict_strangers(&self, name: &OsStr, owner: Option<u32>) -> bool {
        let is_ours = self.stat().is_ok_and(|stat| stat.st_uid == us());
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        if !is_ours || !found.is_ok_and(|found| !is_trusted(found.st_uid) && Some(found.st_uid) != owner) {
            return false;
        }
        let removed = unlinkat(&self.fd, name, AtFlags::empty())
            .or_else(|_| unlinkat(&self.fd, name, AtFlags::REMOVEDIR))
            // A directory with something in it.
            .or_else(|_| renameat(&self.fd, name, &self.fd, format!(".moved.{:016x}", unguessable())));
        removed.is_ok()
    }

    /// Checks that only we and root could exchange a file of ours in it as its owner.
    ///
    /// # Errors
    /// [`Error::Unsafe`], and what the system says.
    pub fn check_owner(&self) -> Result<(), Error> {
        let owner = self.stat()?.st_uid;
        if is_trusted(owner) {
            return Ok(());
        }
        let path = self.path.clone();
        Err(Error::Unsafe {
            reason: format!("it belongs to user {owner}, who could exchange the sockets in it"),
            cure: format!("`chown {} {}`, or choose another directory", us(), path.display()),
            path,
        })
    }

    /// Checks that none of those `others` (the group, all) can exchange a file of ours in it.
    ///
    /// # Errors
    /// [`Error::Unsafe`], and what the system says.
    pub fn check_mode(&self, others: Mode) -> Result<(), Error> {
        let mode = Mode::from_raw_mode(self.stat()?.st_mode);
        if !mode.intersects(others) || mode.contains(Mode::SVTX) {
            return Ok(());
        }
        let path = self.path.clone();
        Err(Error::Unsafe {
            reason: "other users may write to it, who could exchange the sockets in it".into(),
            cure: format!("`chmod +t {0}` or `chmod go-w {0}`", path.display()),
            path,
        })
    }

    /// True if the directory is ours, and no other user may write to it.
    pub fn is_ours_alone(&self) -> bool {
        self.stat().is_ok_and(|stat| {
            stat.st_uid == us() && !Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
        })
    }

    fn stat(&self) -> Result<Stat, Error> {
        fstat(&self.fd).map_err(|source| system("stat", &self.path, source))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The permissions of a directory for sockets with `access`: those who may use the sockets may enter it, and make their
/// own where they may write. Another owner of the sockets is one of all the others there, and only enters.
fn for_sockets(Access { mode, owner, .. }: Access) -> Mode {
    let mut wanted = mode;
    let classes = [(Mode::RWXU, Mode::XUSR), (Mode::RWXG, Mode::XGRP), (Mode::RWXO, Mode::XOTH)];
    for (any, enter) in classes {
        wanted.set(enter, mode.intersects(any));
    }
    if owner.is_some() {
        wanted |= Mode::XOTH;
    }
    wanted.set(Mode::SVTX, mode.intersects(Mode::WGRP | Mode::WOTH));
    wanted
}

fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// True if files of `user` may be relied on: ours and root's. In a user namespace of ours, root is one of the users
/// that are not known there.
fn is_trusted(user: u32) -> bool {
    user == us() || user == 0 || platform::unmapped_user() == Some(user)
}

/// A number that others cannot foretell.
pub fn unguessable() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
