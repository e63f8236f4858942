//! The system that a guest boots: Debian's cloud kernel, and an initial file system with busybox and our own init.
//!
//! Kernel, modules and busybox come from Debian packages (nothing is installed, so root is not needed). They are
//! unpacked once into a cache directory; a directory there appears under its final name only when it is complete,
//! and a lock file keeps tests of several processes from fetching twice.
//!
//! Further programs are those of the machine that runs the test, with the libraries that they are linked with.

use std::collections::BTreeSet;
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
/// The wanted contents of the cache directory; a list of another version of this file makes it fetch again.
const LIST: &str = "list";

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

/// Further ones for a guest that is a host of vmlan's itself: TAP and veth, bridges, bonds, mode `filter`, and the
/// kernel's tunnels.
const HOST_MODULES: [&str; 21] = [
    "drivers/net/tun",
    "drivers/net/veth",
    "net/bridge/bridge",
    "net/tls/tls",
    "drivers/net/bonding/bonding",
    "net/sched/sch_ingress",
    "net/sched/cls_bpf",
    "net/sched/act_mirred",
    "net/ipv4/ip_tunnel",
    "net/ipv4/tunnel4",
    "net/ipv4/ipip",
    "net/ipv4/gre",
    "net/ipv4/ip_gre",
    "net/ipv4/udp_tunnel",
    "net/ipv6/ip6_udp_tunnel",
    "drivers/net/geneve",
    "net/ipv6/tunnel6",
    "net/ipv6/ip6_tunnel",
    "net/ipv6/ip6_gre",
    "net/ipv6/sit",
    "drivers/net/vxlan/vxlan",
];

/// The parts of a guest beside those that every guest has.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Names or paths of programs of this machine, which become `/bin/NAME`.
    pub(crate) programs: Vec<String>,
    /// The first process in the place of the one that takes a test's commands.
    pub(crate) init: Option<String>,
    /// Paths, without the leading slash, and contents of files.
    pub(crate) files: Vec<(String, String)>,
    /// True if it has the modules of a host.
    pub(crate) host: bool,
}

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
        if !is_complete(&directory) {
            fs::create_dir_all(&cache)?;
            let lock = File::create(cache.join("lock"))?;
            lock.lock()?;
            // Another process may have fetched while we waited for the lock.
            if !is_complete(&directory) {
                fetch(&cache, &directory)?;
            }
        }
        Ok(Self { kernel: directory.join("vmlinuz"), directory })
    }

    /// The initial file system, uncompressed.
    ///
    /// # Errors
    /// When a file of the cache cannot be read, or a program is not there.
    pub(crate) fn initial_file_system(&self, extras: &Extras) -> io::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "proc", "run", "sys", "tmp", "modules"] {
            archive.directory(directory);
        }
        archive.file("init", 0o755, extras.init.as_deref().unwrap_or(INIT).as_bytes());
        archive.file("bin/lease", 0o755, LEASE.as_bytes());
        archive.file("bin/busybox", 0o755, &fs::read(self.directory.join("busybox"))?);
        let further: &[&str] = if extras.host { &HOST_MODULES } else { &[] };
        let mut order = String::new();
        for module in MODULES.iter().chain(further) {
            let name = file_name(module);
            let path = self.directory.join(&name);
            if path.exists() {
                archive.file(&format!("modules/{name}"), 0o644, &fs::read(path)?);
                order.push_str(&name);
                order.push('\n');
            }
        }
        archive.file("modules/order", 0o644, order.as_bytes());
        let mut libraries = BTreeSet::new();
        for program in &extras.programs {
            let path = find_program(program)?;
            archive.file(&format!("bin/{}", base_name(program)), 0o755, &fs::read(&path)?);
            libraries.extend(libraries_of(&path));
        }
        for library in libraries {
            let content = fs::read(&library)?;
            archive.file(library.trim_start_matches('/'), 0o755, &content);
        }
        for (path, content) in &extras.files {
            archive.file(path, 0o644, content.as_bytes());
        }
        Ok(archive.finish())
    }
}

fn find_program(name: &str) -> io::Result<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|path| path.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Error::other(format!("{name} is not installed")))
}

/// Paths of the shared libraries that a program needs, the loader among them; none for one that is linked statically.
fn libraries_of(program: &Path) -> Vec<String> {
    let mut command = Command::new("ldd");
    command.arg(program);
    parse_libraries(&run(command, Duration::from_secs(10)).stdout)
}

/// The lines are such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f16)` and
/// `/lib64/ld-linux-x86-64.so.2 (0x7f17)`.
fn parse_libraries(ldd: &str) -> Vec<String> {
    ldd.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

pub(crate) fn cache_directory() -> PathBuf {
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
    for module in MODULES.iter().chain(&HOST_MODULES) {
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
    fs::write(ready.join(LIST), list())?;
    if directory.exists() {
        // It was fetched for another list.
        fs::rename(directory, work.path().join("outdated"))?;
    }
    fs::rename(ready, directory)
}

fn is_complete(directory: &Path) -> bool {
    fs::read_to_string(directory.join(LIST)).is_ok_and(|had| had == list())
}

fn list() -> String {
    let names: Vec<&str> = MODULES.iter().chain(&HOST_MODULES).copied().collect();
    names.join("\n")
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
    format!("{}.ko", base_name(module))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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

    #[test]
    fn libraries_and_loader_are_read() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f16)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f17)\n\t/lib64/ld.so.2 (0x1)\n";

        assert_eq!(parse_libraries(ldd), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
        assert!(parse_libraries("\tstatically linked\n").is_empty());
    }
}
