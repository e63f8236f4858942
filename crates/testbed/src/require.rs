//! The needs of a test from the machine, and skipping it loudly where they are missing.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType};

/// Something a test cannot run without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Effective user 0 (namespaces, TAP interfaces).
    Root,
    /// A program in `PATH`.
    Tool(&'static str),
    /// A file or device that exists.
    File(&'static str),
    /// A kernel of this version, or a later one.
    Linux(u32, u32),
    /// Sockets of this address family, by its number and its name.
    Family(u16, &'static str),
    /// A package of Python's, which is installed when it is not there: `schemathesis==4.32.5`.
    Python(&'static str),
}

/// Effective user 0.
pub fn root() -> Need {
    Need::Root
}

/// A program in `PATH`.
pub fn tool(name: &'static str) -> Need {
    Need::Tool(name)
}

/// A file or device that exists, such as `/dev/net/tun`.
pub fn file(path: &'static str) -> Need {
    Need::File(path)
}

/// A package of Python's, by pip's requirement: `schemathesis==4.32.5`. It is installed under the target directory.
pub fn python(requirement: &'static str) -> Need {
    Need::Python(requirement)
}

/// A Linux kernel of this version, or a later one.
pub fn linux(major: u32, minor: u32) -> Need {
    Need::Linux(major, minor)
}

/// The needs of [`Vm`](crate::Vm): QEMU, and apt to fetch Debian's cloud kernel and busybox.
pub fn qemu() -> [Need; 3] {
    [Need::Tool("qemu-system-x86_64"), Need::Tool("apt-get"), Need::Tool("dpkg-deb")]
}

/// The needs of [`Netns`](crate::Netns) and of TAP interfaces in it.
pub fn namespaces() -> [Need; 4] {
    [Need::Root, Need::Tool("ip"), Need::Tool("ping"), Need::File("/dev/net/tun")]
}

/// The needs of [`Testpmd`](crate::testpmd::Testpmd): the program, and one that has it write line by line.
pub fn testpmd() -> [Need; 2] {
    [Need::Tool(crate::testpmd::PROGRAM), Need::Tool("stdbuf")]
}

/// The needs of a trunk in mode `xdp`: AF_XDP, and a kernel that tells of its types.
pub fn xdp() -> [Need; 2] {
    [Need::Family(44, "AF_XDP"), Need::File("/sys/kernel/btf/vmlinux")]
}

impl Need {
    fn is_met(&self) -> bool {
        match self {
            Need::Root => rustix::process::geteuid().is_root(),
            Need::Tool(name) => find_tool(name, env::var_os("PATH").unwrap_or_default().as_ref()),
            Need::File(path) => Path::new(path).exists(),
            Need::Linux(major, minor) => {
                let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
                version(&release).is_some_and(|version| version >= (*major, *minor))
            }
            Need::Family(number, _) => {
                let family = AddressFamily::from_raw(*number);
                rustix::net::socket(family, SocketType::RAW, None).is_ok()
            }
            Need::Python(requirement) => crate::venv::programs(requirement).is_some(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Root => f.write_str("root"),
            Need::Tool(name) => write!(f, "the program {name}"),
            Need::File(path) => f.write_str(path),
            Need::Linux(major, minor) => write!(f, "Linux {major}.{minor}"),
            Need::Family(_, name) => write!(f, "sockets of {name}"),
            Need::Python(requirement) => write!(f, "Python's {requirement}, or a network to install it from"),
        }
    }
}

impl From<Need> for Vec<Need> {
    fn from(need: Need) -> Self {
        vec![need]
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn find_tool(name: &str, path: &std::ffi::OsStr) -> bool {
    env::split_paths(path).any(|directory| directory.join(name).is_file())
}

/// True if the test may go on. Says on standard error, and in `VMLAN_SKIP_LOG`, why it may not; used by
/// [`require!`](crate::require!).
///
/// # Panics
/// When something is missing and `VMLAN_REQUIRE_ALL=1` is set.
pub fn met(test: &str, needs: &[Need]) -> bool {
    if flag("VMLAN_QUICK") {
        skip(test, "is left out of a quick run");
        return false;
    }
    let missing: Vec<String> = needs.iter().filter(|need| !need.is_met()).map(Need::to_string).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(
        !flag("VMLAN_REQUIRE_ALL"),
        "{test} needs {missing}, and VMLAN_REQUIRE_ALL=1 forbids skipping; run `cargo xtask test` as root, which installs programs"
    );
    skip(test, &format!("needs {missing}"));
    false
}

/// True if the need is met. Says so as [`met`] does where it is not, and never fails: for what is too large to be
/// installed for one test.
pub fn optional(test: &str, need: &Need) -> bool {
    let is_met = !flag("VMLAN_QUICK") && need.is_met();
    if !is_met {
        skip(test, &format!("would need {need}"));
    }
    is_met
}

fn flag(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| value == "1")
}

fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    eprint!("{line}");
    if let Some(log) = env::var_os("VMLAN_SKIP_LOG") {
        // One write of one short line in append mode: tests of several processes do not mix.
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|mut f| f.write_all(line.as_bytes()));
        written.expect("the file that VMLAN_SKIP_LOG names can be written");
    }
}

/// Returns from the test, loudly, unless every need is met: `require!(root(), tool("iperf3"))`, `require!(qemu())`.
///
/// The names inside the parentheses are those of [`require`](mod@crate::require).
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {{
        fn here() {}
        let needs: ::std::vec::Vec<$crate::require::Need> = {
            #[allow(unused_imports, reason = "each caller names only the needs it has")]
            use $crate::require::{file, linux, namespaces, python, qemu, root, testpmd, tool, xdp};
            let groups: ::std::vec::Vec<::std::vec::Vec<$crate::require::Need>> = vec![$(::std::convert::Into::into($need)),+];
            groups.concat()
        };
        let name = ::std::any::type_name_of_val(&here);
        if !$crate::require::met(name.trim_end_matches("::here"), &needs) {
            return;
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_looked_up_in_every_directory_of_the_path() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("frobnicate"), "").expect("a file");
        let path = env::join_paths([Path::new("/nonexistent"), directory.path()]).expect("a path");

        assert!(find_tool("frobnicate", &path));
        assert!(!find_tool("frobnicat", &path));
    }

    #[test]
    fn a_release_is_compared_by_its_numbers() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
        assert!(linux(2, 6).is_met() && !linux(1000, 0).is_met());
    }

    #[test]
    fn a_missing_need_is_named() {
        let needs = [tool("no-such-program"), file("/no/such/file"), root()];

        let names: Vec<String> = needs.iter().map(Need::to_string).collect();

        assert_eq!(names, ["the program no-such-program", "/no/such/file", "root"]);
        assert!(!needs[0].is_met() && !needs[1].is_met());
    }
}
