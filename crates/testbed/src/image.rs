//! What a guest boots: Debian's cloud kernel, and an initial file system with busybox and our own init.
//!
//! Kernel, modules and busybox come from Debian packages (nothing is installed, so root is not needed). They are
//! unpacked once into a cache directory; a directory there appears under its final name only when it is complete,
//! and a lock file keeps tests of several processes from fetching twice.

use std::env;
use std::fs::{self, File};
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cpio::Archive;
use crate::process::{Output, run};

const INIT: &str = include_str!("vm/init.sh");
const LEASE: &str = include_str!("vm/lease.sh");
const KERNEL_METAPACKAGE: &str = "linux-image-cloud-amd64";
const BUSYBOX_PACKAGE: &str = "busybox-static";
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);

/// Modules in the order in which they must be loaded. One that the kernel has built in has no file and is left out.
const MODULES: [&str; 14] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "net/llc/llc",
    "net/802/stp",
    "net/802/garp",
    "net/802/mrp",
    "net/8021q/8021q",
    "net/packet/af_packet",
];

/// The files that every guest boots from.
#[derive(Debug)]
pub(crate) struct GuestFiles {
    /// The kernel image.
    pub(crate) kernel: PathBuf,
    directory: PathBuf,
}

impl GuestFiles {
    /// Finds the files in the cache, or fetches them with apt.
    ///
    /// # Errors
    /// When the package cannot be downloaded or does not hold what is expected; the message says what to do.
    pub(crate) fn prepare() -> io::Result<Self> {
        let cache = cache_directory();
        let directory = cache.join("guest");
        if !directory.exists() {
            fs::create_dir_all(&cache)?;
            let lock = File::create(cache.join("lock"))?;
            lock.lock()?;
            // Another process may have fetched while we waited for the lock.
            if !directory.exists() {
                fetch(&cache, &directory)?;
            }
        }
        Ok(Self { kernel: directory.join("vmlinuz"), directory })
    }

    /// The initial file system, uncompressed.
    ///
    /// # Errors
    /// When a file of the cache cannot be read.
    pub(crate) fn initial_file_system(&self) -> io::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
            archive.directory(directory);
        }
        archive.file("init", 0o755, INIT.as_bytes());
        archive.file("bin/lease", 0o755, LEASE.as_bytes());
        archive.file("bin/busybox", 0o755, &fs::read(self.directory.join("busybox"))?);
        let mut order = String::new();
        for module in MODULES {
            let name = file_name(module);
            let path = self.directory.join(&name);
            if path.exists() {
                archive.file(&format!("modules/{name}"), 0o644, &fs::read(path)?);
                order.push_str(&name);
                order.push('\n');
            }
        }
        archive.file("modules/order", 0o644, order.as_bytes());
        Ok(archive.finish())
    }
}

fn cache_directory() -> PathBuf {
    if let Some(directory) = env::var_os("VMLAN_TESTBED_CACHE") {
        return directory.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("testbed")
}

fn fetch(cache: &Path, directory: &Path) -> io::Result<()> {
    let kernel_package = kernel_package()?;
    eprintln!("testbed: fetching {kernel_package} and {BUSYBOX_PACKAGE} for the guests");
    // Inside the cache directory, so that the rename stays on one file system.
    let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache)?;
    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;

    let tree = download(work.path(), &kernel_package)?;
    let version = kernel_package.trim_start_matches("linux-image-");
    fs::copy(tree.join(format!("boot/vmlinuz-{version}")), ready.join("vmlinuz"))?;
    let modules = tree.join(format!("lib/modules/{version}/kernel"));
    for module in MODULES {
        let source = modules.join(format!("{module}.ko"));
        if source.exists() {
            fs::copy(source, ready.join(file_name(module)))?;
        }
    }
    let tree = download(work.path(), BUSYBOX_PACKAGE)?;
    let busybox =
        ["bin/busybox", "usr/bin/busybox"].map(|path| tree.join(path)).into_iter().find(|path| path.exists());
    let busybox = busybox.ok_or_else(|| Error::other(format!("{BUSYBOX_PACKAGE} holds no busybox")))?;
    fs::copy(busybox, ready.join("busybox"))?;
    fs::rename(ready, directory)
}

/// The versioned package that the metapackage stands for.
fn kernel_package() -> io::Result<String> {
    let mut command = Command::new("apt-cache");
    command.args(["depends", KERNEL_METAPACKAGE]);
    let output = run(command, DOWNLOAD_LIMIT);
    parse_dependency(&output.stdout).ok_or_else(|| {
        Error::other(format!(
            "apt knows no {KERNEL_METAPACKAGE}; run `apt-get update` on Debian or Ubuntu (amd64)"
        ))
    })
}

fn parse_dependency(depends: &str) -> Option<String> {
    depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|rest| format!("linux-image-{rest}"))
}

/// Downloads a package and unpacks it; returns the directory that then holds its files.
fn download(work: &Path, package: &str) -> io::Result<PathBuf> {
    let directory = work.join(package);
    fs::create_dir(&directory)?;
    let mut command = Command::new("apt-get");
    command.args(["download", "-qq", package]).current_dir(&directory);
    succeed(run(command, DOWNLOAD_LIMIT), "check the network, or run `apt-get update`")?;
    let archive = fs::read_dir(&directory)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let archive = archive.ok_or_else(|| Error::other(format!("apt-get downloaded no {package}")))?;
    let tree = directory.join("tree");
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").args([&archive, &tree]);
    succeed(run(command, DOWNLOAD_LIMIT), "is the disk full?")?;
    Ok(tree)
}

fn succeed(output: Output, hint: &str) -> io::Result<()> {
    if output.success() {
        return Ok(());
    }
    Err(Error::other(format!("{} failed: {}; {hint}", output.program, output.stderr.trim())))
}

fn file_name(module: &str) -> String {
    let name = module.rsplit('/').next().unwrap_or(module);
    format!("{name}.ko")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versioned_kernel_package_is_read() {
        let cases = [
            (
                "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n",
                Some("linux-image-6.1.0-56-cloud-amd64"),
            ),
            ("linux-image-cloud-amd64\n  PreDepends: x\n  Depends: foo\n", None),
            ("", None),
        ];

        for (output, expected) in cases {
            assert_eq!(parse_dependency(output).as_deref(), expected, "{output}");
        }
    }

    #[test]
    fn module_files_are_named_without_their_directory() {
        assert_eq!(file_name("drivers/net/virtio_net"), "virtio_net.ko");
    }
}
