//! Programs that run virtual machines: how each is told of its network, and what its arguments say.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::qemu;

/// A program that runs a virtual machine with a network of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// QEMU, for some processor.
    Qemu,
    /// krunkit.
    Krunkit,
    /// vfkit.
    Vfkit,
}

/// The kind of socket that a program connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// A stream.
    Stream,
    /// Datagrams.
    Datagram,
    /// Messages about the rings of a device, which are in memory that the machine shares.
    VhostUser,
}

impl Program {
    /// Finds the program by the name of its file.
    ///
    /// # Errors
    /// A sentence with the cure for a program that is none of these, on `network`.
    pub fn of(command: &OsStr, network: &str) -> Result<Program, String> {
        let name = Path::new(command).file_name().unwrap_or(command).to_string_lossy();
        match &*name {
            "qemu-kvm" | "kvm" => Ok(Program::Qemu),
            "krunkit" => Ok(Program::Krunkit),
            "vfkit" => Ok(Program::Vfkit),
            name if name.starts_with("qemu-system-") => Ok(Program::Qemu),
            "cloud-hypervisor" | "firecracker" | "crosvm" => Err(format!(
                "{name} opens a TAP, which a port of kind interface makes (as root); add one, and write what is shown \
                 then:\n  vmlan port add {network} NAME interface name=TAP create=tap owner=USER\n  vmlan port show \
                 {network}/NAME"
            )),
            name => Err(format!(
                "`{}` is not known here; `vmlan vm` runs qemu-system-…, krunkit and vfkit. Add a port for another \
                 program, and write what is shown then:\n  vmlan port add {network} NAME stream listen=NAME.sock\n  \
                 vmlan port show {network}/NAME",
                vmlan_api::escaped(name)
            )),
        }
    }

    /// The kind of socket that it connects to whatever its memory is.
    pub fn socket(self) -> Socket {
        match self {
            Program::Qemu | Program::Krunkit => Socket::Stream,
            Program::Vfkit => Socket::Datagram,
        }
    }

    /// The arguments that join the machine to the socket of this kind at `path`, with this MAC address. `command` is
    /// the user's.
    pub fn network(self, socket: Socket, command: &[OsString], path: &str, mac: &str) -> Vec<String> {
        match self {
            Program::Qemu => {
                // QEMU's own way to write a comma in a value.
                let path = path.replace(',', ",,");
                let card = qemus_device(command);
                let mut device = format!("{card},netdev=vmlan0,mac={mac}");
                if socket != Socket::VhostUser {
                    let netdev = format!("stream,id=vmlan0,server=off,addr.type=unix,addr.path={path}");
                    return ["-netdev", &netdev, "-device", &device].map(str::to_owned).into();
                }
                // QEMU 7.2 ends under emulation when a driver of Linux asks for an interrupt for each queue.
                if card == PCI_CARD && !qemu::is_accelerated(command) {
                    device.push_str(",vectors=0");
                }
                let chardev = format!("socket,id=vmlan0,path={path}");
                let netdev = "vhost-user,id=vmlan0,chardev=vmlan0";
                ["-chardev", &chardev, "-netdev", netdev, "-device", &device].map(str::to_owned).into()
            }
            Program::Krunkit => {
                vec!["--device".to_owned(), format!("virtio-net,type=unixstream,path={path},mac={mac}")]
            }
            Program::Vfkit => {
                vec!["--device".to_owned(), format!("virtio-net,unixSocketPath={path},mac={mac}")]
            }
        }
    }

    /// The arguments of the user's that give the machine a network already, as they were written.
    pub fn own_network(self, arguments: &[OsString]) -> Option<String> {
        let mut words = arguments.iter().map(|word| word.to_string_lossy()).peekable();
        while let Some(word) = words.next() {
            let (option, inner) = option(&word);
            let value = inner.or_else(|| words.peek().cloned().map(Into::into));
            let value = value.as_deref().unwrap_or_default();
            let found = match self {
                Program::Qemu => match option {
                    "netdev" => true,
                    // No network at all is what lets ours be the only one.
                    "nic" | "net" => value != "none",
                    "device" => value.split(',').any(|part| part.starts_with("netdev=")),
                    _ => false,
                },
                Program::Krunkit | Program::Vfkit => {
                    option == "device" && (value == "virtio-net" || value.starts_with("virtio-net,"))
                }
            };
            if found {
                return Some(if word.contains('=') { word.into_owned() } else { format!("{word} {value}") });
            }
        }
        None
    }

    /// Names the machine as its arguments do: by name, or by the file of its disk.
    pub fn name(self, arguments: &[OsString]) -> String {
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        let value_of = |wanted: &[&str]| {
            words.windows(2).filter(|pair| wanted.contains(&option(&pair[0]).0)).map(|pair| &*pair[1]).next()
        };
        let member = |text: &str, keys: &[&str]| {
            text.split(',').find_map(|part| {
                part.split_once('=').filter(|(key, _)| keys.contains(key)).map(|(_, value)| value.to_owned())
            })
        };
        let named = value_of(&["name"]).map(|text| {
            let whole = text.split(',').next().unwrap_or(text);
            member(text, &["guest"]).unwrap_or_else(|| whole.to_owned())
        });
        let disks =
            words.windows(2).filter(|pair| ["drive", "blockdev", "device"].contains(&option(&pair[0]).0));
        let mut disks = disks.filter_map(|pair| match self {
            Program::Qemu => member(&pair[1], &["file", "filename", "file.filename"]),
            _ => pair[1].starts_with("virtio-blk").then(|| member(&pair[1], &["path"])).flatten(),
        });
        let alone = || match &words[..] {
            [first, ..] if !first.starts_with('-') => Some(first.to_string()),
            [.., before, last] if !last.starts_with('-') && !before.starts_with('-') => {
                Some(last.to_string())
            }
            _ => None,
        };
        let file =
            disks.next().or_else(|| value_of(&["hda", "cdrom", "kernel"]).map(str::to_owned)).or_else(alone);
        let file = file.and_then(|file| Some(Path::new(&file).file_stem()?.to_string_lossy().into_owned()));
        named
            .into_iter()
            .chain(file)
            .map(|text| as_name(&text))
            .find(|name| !name.is_empty())
            .unwrap_or("vm".into())
    }
}

/// An option without its hyphens, and its value where that is in the same word.
pub(super) fn option(word: &str) -> (&str, Option<String>) {
    let Some(rest) = word.strip_prefix('-') else { return ("", None) };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    match rest.split_once('=') {
        Some((option, value)) => (option, Some(value.to_owned())),
        None => (rest, None),
    }
}

/// A text as the name of a port, which is a part of a domain too; empty if nothing of it can be.
fn as_name(text: &str) -> String {
    /// Characters, so that a number fits behind them.
    const LONGEST: usize = 26;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(plain).collect();
    let name: String = name.trim_matches('-').chars().take(LONGEST).collect();
    name.trim_end_matches('-').to_owned()
}

/// The network card of a machine with PCI.
const PCI_CARD: &str = "virtio-net-pci";

/// The network card that fits the machine.
fn qemus_device(command: &[OsString]) -> &'static str {
    let word = |word: &OsString| word.to_string_lossy().into_owned();
    let is_microvm = command.windows(2).any(|pair| {
        ["M", "machine"].contains(&option(&word(&pair[0])).0) && word(&pair[1]).starts_with("microvm")
    });
    match command.first().map(word) {
        Some(program) if program.ends_with("s390x") => "virtio-net-ccw",
        _ if is_microvm => "virtio-net-device",
        _ => PCI_CARD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn programs_are_known_by_their_files_names() {
        for (command, program) in [
            ("qemu-system-x86_64", Program::Qemu),
            ("/usr/libexec/qemu-kvm", Program::Qemu),
            ("./krunkit", Program::Krunkit),
            ("vfkit", Program::Vfkit),
        ] {
            assert_eq!(Program::of(OsStr::new(command), "lab"), Ok(program), "{command}");
        }
        for (command, advice) in [
            ("firecracker", "vmlan port add lab NAME interface name=TAP create=tap"),
            ("cloud-hypervisor", "vmlan port show lab/NAME"),
            ("bochs", "`bochs` is not known here"),
        ] {
            let error = Program::of(OsStr::new(command), "lab").expect_err(command);
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn a_network_of_the_users_own_is_found() {
        for (program, text, found) in [
            (Program::Qemu, "-m 1G -nic user", Some("-nic user")),
            (Program::Qemu, "--netdev tap,id=x", Some("--netdev tap,id=x")),
            (Program::Qemu, "-device e1000,netdev=x", Some("-device e1000,netdev=x")),
            (Program::Qemu, "-net user", Some("-net user")),
            (Program::Qemu, "-nic none -net none -nodefaults", None),
            (Program::Qemu, "-device virtio-blk-pci,drive=netdev", None),
            (Program::Qemu, "-nic", Some("-nic ")),
            (Program::Vfkit, "--device virtio-net,nat", Some("--device virtio-net,nat")),
            (Program::Vfkit, "--device=virtio-net,nat", Some("--device=virtio-net,nat")),
            (Program::Krunkit, "--device virtio-blk,path=/virtio-net", None),
        ] {
            assert_eq!(program.own_network(&words(text)).as_deref(), found, "{text}");
        }
    }

    #[test]
    fn a_machine_is_named_by_its_name_or_its_disk() {
        for (program, text, name) in [
            (Program::Qemu, "-name web", "web"),
            (Program::Qemu, "-name guest=Web.1,debug-threads=on -hda x.img", "web-1"),
            (Program::Qemu, "-name x,process=y", "x"),
            (Program::Qemu, "-m 1G -drive if=virtio,file=/srv/debian-12.qcow2", "debian-12"),
            (Program::Qemu, "-blockdev driver=file,filename=a/b.raw,node-name=x", "b"),
            (Program::Qemu, "-hda disk.img", "disk"),
            (Program::Qemu, "disk.img -m 1G", "disk"),
            (Program::Qemu, "-m 1G disk.img", "disk"),
            (Program::Qemu, "-m 1G", "vm"),
            (Program::Qemu, "-name ---", "vm"),
            (Program::Qemu, "-name aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
            (Program::Vfkit, "--device virtio-rng --device virtio-blk,path=/d/fedora.raw", "fedora"),
        ] {
            assert_eq!(program.name(&words(text)), name, "{text}");
        }
    }

    #[test]
    fn each_program_is_told_of_its_network_in_its_words() {
        let told = |program: Program, command: &str| {
            let socket = program.socket();
            program.network(socket, &words(command), "/run/a,b.sock", "52:54:00:00:00:01").join(" ")
        };
        assert_eq!(
            told(Program::Qemu, "qemu-system-x86_64 -m 1G"),
            "-netdev stream,id=vmlan0,server=off,addr.type=unix,addr.path=/run/a,,b.sock \
             -device virtio-net-pci,netdev=vmlan0,mac=52:54:00:00:00:01"
        );
        assert!(told(Program::Qemu, "qemu-system-s390x").contains("virtio-net-ccw,netdev"));
        assert!(told(Program::Qemu, "qemu-system-x86_64 -M microvm,acpi=on").contains("virtio-net-device,"));
        assert_eq!(
            told(Program::Krunkit, "krunkit"),
            "--device virtio-net,type=unixstream,path=/run/a,b.sock,mac=52:54:00:00:00:01"
        );
        assert!(told(Program::Vfkit, "vfkit").starts_with("--device virtio-net,unixSocketPath="));
        let rings = |command: &str| {
            let socket = Socket::VhostUser;
            Program::Qemu.network(socket, &words(command), "/run/a,b.sock", "52:54:00:00:00:01").join(" ")
        };
        assert_eq!(
            rings("qemu-system-x86_64 -enable-kvm -m 1G"),
            "-chardev socket,id=vmlan0,path=/run/a,,b.sock -netdev vhost-user,id=vmlan0,chardev=vmlan0 \
             -device virtio-net-pci,netdev=vmlan0,mac=52:54:00:00:00:01"
        );
        assert!(rings("qemu-system-x86_64 -m 1G").ends_with(",mac=52:54:00:00:00:01,vectors=0"));
        assert!(
            rings("qemu-system-s390x -m 1G").ends_with("virtio-net-ccw,netdev=vmlan0,mac=52:54:00:00:00:01")
        );
    }
}
