//! The package in use: installed, started, upgraded and purged in a machine that is thrown away.
//!
//! The machine is a Debian below the target directory, made once, that systemd-nspawn starts with all changes in
//! memory. `packaging/test/inside` is what happens there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{Package, copy, failed, write};
use crate::packages::{self, Tool};
use crate::shell::{self, Error, cargo, is_root, program, root, target};
use crate::test;

const TOOLS: [Tool; 3] = [
    Tool { file: "/usr/sbin/debootstrap", package: "debootstrap" },
    Tool { file: "/usr/bin/systemd-nspawn", package: "systemd-container" },
    Tool { file: "/usr/bin/python3", package: "python3" },
];

/// The release of the machine.
const RELEASE: &str = "bookworm";
/// The machine's packages beside the least: systemd with sessions, what ports and their check need, and readers of what
/// is installed.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,iproute2,iputils-ping,nftables,\
                        tcpdump,socat,man-db,zsh,fish,apparmor,ruby";
/// The unit that starts the check in the machine.
const UNIT: &str = "[Service]\nExecStart=/check/inside\n";
/// The last line of a check that found no fault.
const PASSED: &str = "PASSED";
/// Reads a property list as macOS would, and looks that it runs the daemon.
const READ_PLIST: &str = "import plistlib, sys\n\
                          words = plistlib.load(open(sys.argv[1], 'rb'))['ProgramArguments']\n\
                          assert words[1:] == ['run', '/etc/vmlan/vmlan.toml'], words";

/// Packs the program of a development build and checks the package; says so and does nothing without root.
///
/// # Errors
/// When tools cannot be installed, or a step fails; the log says which.
pub fn run() -> Result<(), Error> {
    if !is_root() {
        eprintln!("NOT ROOT: installing the Debian package is SKIPPED");
        return Ok(());
    }
    if !packages::ensure(&TOOLS, "installing the Debian package is SKIPPED")?.is_empty() {
        return Ok(());
    }
    shell::run(program("python3", ["-c", READ_PLIST]).arg(root().join("packaging/macos/vmlan.plist")))?;
    // The one that the tests use, so that nothing is built for this alone.
    shell::run(cargo(["test", "--no-run", "--quiet", "--locked"]).args(test::MEMBERS))?;
    let package =
        Package { profile: "dev".into(), binary: Some(target().join("debug/vmlan")), ..Package::default() };
    let Some(made) = super::run(&package)? else { return Ok(()) };
    let base = base()?;
    let check = target().join("debian/check");
    // The log of an earlier run would be taken for that of this one.
    let _ = fs::remove_dir_all(&check);
    for (from, name) in [
        (root().join("packaging/test/inside"), "inside"),
        (root().join("packaging/test/vmlan.toml"), "vmlan.toml"),
        (root().join("packaging/homebrew/vmlan.rb"), "vmlan.rb"),
        (made, "vmlan.deb"),
    ] {
        copy(&from, &check.join(name))?;
    }
    start(&base, &check)
}

/// Runs the machine until its check is over.
fn start(base: &Path, check: &Path) -> Result<(), Error> {
    let console = target().join("debian/console");
    let open = || File::create(&console).map_err(|error| failed(&console, &error));
    let mut machine = program("unshare", ["--mount", "--propagation", "private"]);
    machine.arg(root().join("packaging/test/boot")).args([base, check]);
    eprintln!("starting a machine with systemd; its console is {}", console.display());
    let ended = machine.stdin(Stdio::null()).stdout(open()?).stderr(Stdio::from(open()?)).status();
    let ended = ended.map_err(|error| Error::Failed(format!("cannot run unshare: {error}")))?;
    let log = fs::read_to_string(check.join("log")).unwrap_or_default();
    if log.lines().last() == Some(PASSED) {
        log.lines().filter(|line| line.starts_with("== ")).for_each(|line| eprintln!("{line}: ok"));
        return Ok(());
    }
    eprintln!("{log}");
    let faults: Vec<&str> = log.lines().filter(|line| line.starts_with("FAULT")).collect();
    Err(Error::Failed(format!(
        "the package is at fault, or the machine ({ended}); see its log above, and {}\n{}",
        console.display(),
        faults.join("\n")
    )))
}

/// Makes the machine's system, unless it is there.
fn base() -> Result<PathBuf, Error> {
    let base = target().join("debian/base");
    let stamp = target().join("debian/base.packages");
    let wanted = format!("{RELEASE} {PACKAGES} {UNIT}");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(base);
    }
    let _ = fs::remove_file(&stamp);
    if base.exists() {
        fs::remove_dir_all(&base).map_err(|error| failed(&base, &error))?;
    }
    let mut debootstrap = program("/usr/sbin/debootstrap", ["--variant=minbase"]);
    debootstrap.arg(format!("--include={PACKAGES}")).arg(RELEASE).arg(&base);
    shell::run(debootstrap.stdout(Stdio::null()))?;
    let units = base.join("etc/systemd/system");
    write(&units.join("check.service"), UNIT)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).map_err(|error| failed(&wants, &error))?;
    std::os::unix::fs::symlink("../check.service", wants.join("check.service"))
        .map_err(|error| failed(&wants, &error))?;
    // Downloaded packages and lists are of no use to a machine without a network.
    for directory in ["var/cache/apt/archives", "var/lib/apt/lists"] {
        let _ = fs::remove_dir_all(base.join(directory));
    }
    write(&stamp, &wanted)?;
    Ok(base)
}
