//! The Debian package: the program is built by Cargo, and debhelper packs it with what `packaging/` holds.

mod check;

use std::fs;
use std::path::{Path, PathBuf};

use crate::macos::{NEEDED, for_target};
use crate::packages::{self, Tool};
use crate::shell::{self, Error, capture, cargo, program, root, target};

/// The tools that pack and check a package.
pub const TOOLS: [Tool; 4] = [
    Tool { file: "/usr/bin/dh", package: "debhelper" },
    Tool { file: "/usr/bin/dh_apparmor", package: "dh-apparmor" },
    Tool { file: "/usr/bin/dpkg-buildpackage", package: "dpkg-dev" },
    Tool { file: "/usr/bin/lintian", package: "lintian" },
];

/// The tools for a package of the other processor: a linker with its library, and an emulator, since manual pages and
/// completions come out of the program.
pub const CROSS_TOOLS: [Tool; 3] = [
    Tool { file: CROSS_LINKER, package: "gcc-aarch64-linux-gnu" },
    Tool { file: "/usr/aarch64-linux-gnu/lib/crt1.o", package: "libc6-dev-arm64-cross" },
    Tool { file: EMULATOR, package: "qemu-user-static" },
];

const CROSS_LINKER: &str = "/usr/bin/aarch64-linux-gnu-gcc";
const EMULATOR: &str = "/usr/bin/qemu-aarch64-static";
/// The directory that the emulator looks for libraries in.
const CROSS_ROOT: &str = "/usr/aarch64-linux-gnu";
/// The compiler's name of the other processor.
pub const CROSS_TARGET: &str = "aarch64-unknown-linux-gnu";

/// A processor, by Debian's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// Returns the architecture with this name.
    ///
    /// # Errors
    /// When no package is made for it.
    pub fn from_name(name: &str) -> Result<Architecture, Error> {
        match name {
            "amd64" => Ok(Architecture::Amd64),
            "arm64" => Ok(Architecture::Arm64),
            _ => Err(Error::Usage(format!("there is no package for {name:?}; amd64 or arm64"))),
        }
    }

    /// Returns Debian's name.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// True where this machine runs such programs by itself.
    fn is_native(self) -> bool {
        let native = if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::Amd64 };
        self == native
    }
}

/// The task that the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make a package.
    Make(Package),
    /// Make one and try it.
    Check,
}

/// A package to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The processor it is for.
    pub architecture: Architecture,
    /// Cargo's profile of the program.
    pub profile: String,
    /// A program that is there already, instead of one that is built.
    pub binary: Option<PathBuf>,
    /// Upstream's version, if not the workspace's.
    pub version: Option<String>,
}

impl Default for Package {
    fn default() -> Package {
        Package { architecture: Architecture::Amd64, profile: "release".into(), binary: None, version: None }
    }
}

/// Reads the arguments of the task.
///
/// # Errors
/// When there is one that it does not know.
pub fn parse(words: Vec<String>) -> Result<Task, Error> {
    if words == ["--test"] {
        return Ok(Task::Check);
    }
    let mut package = Package::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Error::Usage(format!("{word} wants a value")));
        match word.as_str() {
            "--arch" => package.architecture = Architecture::from_name(&value()?)?,
            "--profile" => package.profile = value()?,
            "--binary" => package.binary = Some(value()?.into()),
            "--version" => package.version = Some(value()?),
            _ => return Err(Error::Usage(format!("package does not know {word:?}"))),
        }
    }
    Ok(Task::Make(package))
}

/// Makes a package, or makes one and tries it.
///
/// # Errors
/// Those of [`run`] and [`check()`].
pub fn perform(task: &Task) -> Result<(), Error> {
    match task {
        Task::Make(package) => run(package).map(drop),
        Task::Check => check(),
    }
}

/// Installs the package of a development build in a machine of its own, and tries it there.
///
/// # Errors
/// When something is wrong with it.
pub fn check() -> Result<(), Error> {
    check::run()
}

/// Makes the package, which lintian has no complaint about. Returns where it is; nothing where tools are missing and
/// may not be installed.
///
/// # Errors
/// When tools cannot be installed as root, or a step fails.
pub fn run(package: &Package) -> Result<Option<PathBuf>, Error> {
    let mut tools = TOOLS.to_vec();
    if !package.architecture.is_native() {
        tools.extend(CROSS_TOOLS);
        tools.extend(NEEDED);
    }
    if !packages::ensure(&tools, "the Debian package is SKIPPED")?.is_empty() {
        return Ok(None);
    }
    let binary = match &package.binary {
        Some(binary) => root().join(binary),
        None => build(package)?,
    };
    let made = pack(package, &binary)?;
    // As root it says so, and goes on.
    let mut check =
        program("lintian", ["--fail-on", "error,warning", "--allow-root", "--tag-display-limit=0"]);
    shell::run(check.arg(&made))?;
    eprintln!("made {}", made.display());
    Ok(Some(made))
}

/// Builds the program. Returns where it is.
fn build(package: &Package) -> Result<PathBuf, Error> {
    let mut command = cargo(["build", "--locked", "--package", "vmlan", "--profile"]);
    command.arg(&package.profile);
    // Cargo calls the directory of its first profile otherwise.
    let directory = if package.profile == "dev" { "debug" } else { &package.profile };
    if package.architecture.is_native() {
        shell::run(&mut command)?;
        return Ok(target().join(directory).join("vmlan"));
    }
    for_target(&mut command, CROSS_TARGET).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", CROSS_LINKER);
    shell::run(&mut command)?;
    Ok(target().join("macos").join(CROSS_TARGET).join(directory).join("vmlan"))
}

/// Packs the program with all that belongs to it. Returns the package.
fn pack(package: &Package, binary: &Path) -> Result<PathBuf, Error> {
    let number = package.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    let architecture = package.architecture.name();
    let directory = target().join("debian").join(architecture);
    let tree = directory.join(format!("vmlan-{number}"));
    // A file of an earlier run would be packed.
    let _ = fs::remove_dir_all(&tree);
    let seconds = seconds();
    stage(package, binary, &tree)?;
    let date = capture(&mut program("date", ["--utc", "--rfc-email", &format!("--date=@{seconds}")]));
    let date = date.ok_or_else(|| Error::Failed("`date` gives no date".into()))?;
    write(&tree.join("debian/changelog"), &changelog(number, date.trim()))?;
    let mut pack = program("dpkg-buildpackage", ["--build=binary", "--no-sign", "--no-check-builddeps"]);
    pack.arg(format!("--host-arch={architecture}"));
    // `shell::run` runs from the root of the workspace.
    let mut inside = program("env", ["--chdir"]);
    inside.arg(&tree).arg(pack.get_program()).args(pack.get_args());
    // What is packed has the date of the commit, so that the same commit makes the same package.
    inside.env("SOURCE_DATE_EPOCH", seconds).env("DEB_BUILD_OPTIONS", "nocheck").env("LC_ALL", "C.UTF-8");
    if package.profile != "release" {
        // Nobody keeps it, so the smallest size is not worth the time.
        inside.env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    }
    shell::run(&mut inside)?;
    Ok(directory.join(format!("vmlan_{number}-1_{architecture}.deb")))
}

/// Puts what is packed into a tree, as debhelper looks for it.
fn stage(package: &Package, binary: &Path, tree: &Path) -> Result<(), Error> {
    let from = |name: &str| root().join("packaging").join(name);
    copy_all(&from("debian"), &tree.join("debian"))?;
    copy_all(&from("apparmor"), &tree.join("apparmor"))?;
    copy_all(&from("systemd/examples"), &tree.join("examples"))?;
    copy_all(&root().join("docs"), &tree.join("docs"))?;
    copy_all(&root().join("contrib"), &tree.join("examples"))?;
    for (source, place) in [
        (from("systemd/vmlan.service"), "debian/vmlan.service"),
        (from("systemd/vmlan-user.service"), "debian/vmlan.user.service"),
        (from("systemd/vmlan.sysusers"), "debian/vmlan.sysusers"),
        (from("systemd/vmlan.tmpfiles"), "debian/vmlan.tmpfiles"),
        (from("vmlan.toml"), "vmlan.toml"),
        (root().join("README.md"), "README.md"),
        (root().join("CHANGELOG.md"), "CHANGELOG.md"),
        (binary.to_owned(), "vmlan"),
    ] {
        copy(&source, &tree.join(place))?;
    }
    let ask = |arguments: &[&str]| {
        let mut command = if package.architecture.is_native() {
            program(&tree.join("vmlan").to_string_lossy(), [])
        } else {
            let mut emulator = program(EMULATOR, ["-L", CROSS_ROOT]);
            emulator.arg(tree.join("vmlan"));
            emulator
        };
        capture(command.args(arguments))
            .ok_or_else(|| Error::Failed(format!("`{} {}` failed", binary.display(), arguments.join(" "))))
    };
    eprint!("packing {}", ask(&["version"])?);
    ask(&["check", &tree.join("vmlan.toml").to_string_lossy()])?;
    ask(&["man", "--directory", &tree.join("man").to_string_lossy()])?;
    for (shell, name) in [("bash", "vmlan"), ("zsh", "_vmlan"), ("fish", "vmlan.fish")] {
        write(&tree.join("completions").join(shell).join(name), &ask(&["completions", shell])?)?;
    }
    copy(&tree.join("docs/vmlan.toml.5"), &tree.join("man/vmlan.toml.5"))?;
    for page in ["docs/vmlan.1", "docs/vmlan.toml.5"] {
        let place = tree.join(page);
        fs::remove_file(&place).map_err(|error| failed(&place, &error))?;
    }
    Ok(())
}

/// Debian's changelog, with an entry for this version.
fn changelog(version: &str, date: &str) -> String {
    format!(
        "vmlan ({version}-1) unstable; urgency=medium\n\n  * See changelog.gz for what is new.\n\n \
         -- The vmlan authors <vmlan@packages.debian.invalid>  {date}\n"
    )
}

/// The time of the commit; that of the changelog where there is no git.
fn seconds() -> String {
    let of_commit = capture(&mut program("git", ["log", "-1", "--format=%ct"]));
    let seconds = of_commit.or_else(|| capture(&mut program("stat", ["--format=%Y", "CHANGELOG.md"])));
    seconds.map_or_else(|| "0".into(), |seconds| seconds.trim().to_owned())
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(|error| failed(from, &error))?.flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &place)?;
        } else {
            copy(&entry.path(), &place)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    make_parent(to)?;
    fs::copy(from, to).map(|_| ()).map_err(|error| failed(from, &error))
}

fn write(to: &Path, text: &str) -> Result<(), Error> {
    make_parent(to)?;
    fs::write(to, text).map_err(|error| failed(to, &error))
}

fn make_parent(of: &Path) -> Result<(), Error> {
    let parent = of.parent().expect("a file in a directory");
    fs::create_dir_all(parent).map_err(|error| failed(parent, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, Error> {
        parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn arguments_are_understood() {
        assert_eq!(parsed(""), Ok(Task::Make(Package::default())));
        assert_eq!(parsed("--test"), Ok(Task::Check));
        let arm = Package { architecture: Architecture::Arm64, profile: "dev".into(), ..Package::default() };
        assert_eq!(parsed("--arch arm64 --profile dev"), Ok(Task::Make(arm)));
        for line in ["--arch", "--arch mips", "arm64", "--profile", "--test x"] {
            assert!(matches!(parsed(line), Err(Error::Usage(_))), "{line}");
        }
    }
}
