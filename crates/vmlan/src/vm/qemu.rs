//! A command line of QEMU: whose memory the machine has, and what it has to be told so that vmlan can serve the rings
//! of its network card in that memory (vhost-user).
//!
//! QEMU's own rules are followed: an option that is there several times is merged, and the last value of a key counts.
//! Options that are written in another way (JSON, a file of `-readconfig`) are not understood, and then memory counts
//! as not shared.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path};

use super::program::option;

/// The identifier of memory that is added.
const ID: &str = "vmlan-mem";

/// The memory of a machine, as its command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// All of it can be mapped by others.
    Shared,
    /// Some of it cannot, for this reason.
    Own(String),
    /// QEMU makes it, with so much of it; `None` when the command line does not say.
    Plain(Option<String>),
}

/// The options of a command line, in their order, with the values that they have.
struct Options(Vec<(String, String)>);

impl Options {
    fn of(command: &[OsString]) -> Options {
        let words: Vec<_> = command.iter().skip(1).map(|word| word.to_string_lossy()).collect();
        let named = words.iter().enumerate().filter(|(_, word)| word.starts_with('-') && word.len() > 1);
        let pairs = named.map(|(place, word)| {
            let value = words.get(place + 1).map(ToString::to_string).unwrap_or_default();
            (option(word).0.to_owned(), value)
        });
        Options(pairs.collect())
    }

    fn values<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_str())
    }

    /// The keys of all options with these names, merged.
    fn merged(&self, names: &[&str], first: &str) -> BTreeMap<String, String> {
        self.values(names).flat_map(|value| keys(value, first)).collect()
    }
}

/// The keys of an option's value, where the one without a name is `first`.
fn keys(value: &str, first: &str) -> BTreeMap<String, String> {
    let pair = |(place, part): (usize, &str)| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None if place == 0 => (first.to_owned(), part.to_owned()),
        None => (part.to_owned(), "on".to_owned()),
    };
    // A comma in a value is written twice; none of the keys that are asked for has one.
    value.replace(",,", "\u{0}").split(',').enumerate().map(pair).collect()
}

fn is_on(value: Option<&String>, default: bool) -> bool {
    value.map_or(default, |value| ["on", "yes", "true", "y"].contains(&value.as_str()))
}

/// Why others cannot map the memory of this object; nothing if they can.
fn hindrance(object: &BTreeMap<String, String>) -> Option<String> {
    let get = |key: &str| object.get(key);
    let kind = get("qom-type").map_or("", String::as_str);
    let is_shared = match kind {
        "memory-backend-memfd" | "memory-backend-shm" => is_on(get("share"), true),
        "memory-backend-file" => is_on(get("share"), false),
        _ => return Some(format!("is a {kind}; a memory-backend-memfd can be shared")),
    };
    let read_only = ["readonly", "rom"].iter().any(|key| is_on(get(key), false));
    if !is_shared {
        Some("is not shared; write share=on".to_owned())
    } else if read_only {
        Some("is read-only".to_owned())
    } else if kind == "memory-backend-file" && !is_in_memory(get("mem-path").map_or("", String::as_str)) {
        Some("is a file that is on no memory; use /dev/shm or huge pages".to_owned())
    } else {
        None
    }
}

/// True for paths at which files are memory, as far as a path says that.
fn is_in_memory(path: &str) -> bool {
    let path = Path::new(path);
    // A path that goes up again may lead anywhere, by links too.
    let goes_up = path.components().any(|component| component == Component::ParentDir);
    !goes_up && ["/dev/shm", "/dev/hugepages"].iter().any(|root| path.starts_with(root))
}

/// Finds out whose memory the machine has.
pub fn memory(command: &[OsString]) -> Memory {
    let options = Options::of(command);
    let objects: BTreeMap<String, BTreeMap<String, String>> = options
        .values(&["object"])
        .map(|value| keys(value, "qom-type"))
        .filter_map(|object| Some((object.get("id")?.clone(), object)))
        .collect();
    let is_node = |numa: &BTreeMap<String, String>| numa.get("type").is_some_and(|kind| kind == "node");
    let nodes: Vec<_> = options.values(&["numa"]).map(|value| keys(value, "type")).filter(is_node).collect();
    let backend = options.merged(&["M", "machine"], "type").remove("memory-backend");
    // Memory that is plugged in beside that of the machine.
    let devices = options.values(&["device"]).map(|value| keys(value, "driver"));
    let plugged = devices.filter_map(|mut device| device.remove("memdev"));
    let mut used: Vec<String> = plugged.collect();
    match (nodes.is_empty(), backend) {
        (false, _) => {
            for node in nodes {
                match node.get("memdev") {
                    Some(memory) => used.push(memory.clone()),
                    None => return Memory::Own("a NUMA node has memory without `memdev`".to_owned()),
                }
            }
        }
        (true, Some(backend)) => used.push(backend),
        (true, None) if options.values(&["mem-path"]).next().is_some() => {
            return Memory::Own(
                "`-mem-path` does not share it; write a memory-backend-file with share=on".to_owned(),
            );
        }
        (true, None) if !used.is_empty() => {
            return Memory::Own("only what is plugged in has an object".to_owned());
        }
        (true, None) => {
            let size = options.merged(&["m"], "size").remove("size");
            return Memory::Plain(size.filter(|size| !size.is_empty()));
        }
    }
    let faults = used.iter().find_map(|id| match objects.get(id) {
        Some(object) => hindrance(object).map(|why| format!("memory `{}` {why}", vmlan_api::escaped(id))),
        None => Some(format!(
            "memory `{}` is no -object of the command line with `key=value`; JSON and -readconfig are not understood",
            vmlan_api::escaped(id)
        )),
    });
    faults.map_or(Memory::Shared, Memory::Own)
}

/// The arguments that give the machine so much memory that can be shared, in place of its own.
pub fn shared_memory(size: &str) -> [String; 4] {
    // Without a unit it is MiB there and octets here.
    let unit = if size.ends_with(|last: char| last.is_ascii_digit()) { "M" } else { "" };
    [
        "-object".to_owned(),
        format!("memory-backend-memfd,id={ID},size={size}{unit},share=on"),
        "-machine".to_owned(),
        format!("memory-backend={ID}"),
    ]
}

/// True if the machine runs on the processor and never under emulation, as far as its command line says.
pub fn is_accelerated(command: &[OsString]) -> bool {
    let program = command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    let options = Options::of(command);
    let machine = options.merged(&["M", "machine"], "type");
    let named: Vec<String> = machine
        .get("accel")
        .into_iter()
        .flat_map(|accelerators| accelerators.split(':').map(str::to_owned))
        .chain(options.values(&["accel"]).filter_map(|value| keys(value, "accel").remove("accel")))
        .collect();
    let has_kvm = named.iter().any(|name| name == "kvm")
        || options.values(&["enable-kvm"]).next().is_some()
        || program.ends_with("kvm");
    has_kvm && named.iter().all(|name| name == "kvm")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn memory_is_shared_where_all_of_it_is() {
        let shared = "-object memory-backend-memfd,id=m,size=1G";
        for text in [
            "-object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m",
            "-machine memory-backend=m -object memory-backend-memfd,size=1G,id=m -M q35",
            "-object memory-backend-file,id=m,size=1G,mem-path=/dev/shm/a,,b,share=on -M memory-backend=m",
            "-object qom-type=memory-backend-shm,id=m,size=1G -M memory-backend=m",
            "-object memory-backend-memfd,id=m,size=1G -numa node,memdev=m -numa dist,src=0,dst=0,val=10",
            "--object memory-backend-memfd,id=m,size=1G --machine memory-backend=x -machine memory-backend=m",
        ] {
            assert_eq!(memory(&words(&format!("qemu -m 1G {text}"))), Memory::Shared, "{text}");
        }
        for (text, why) in [
            ("-object memory-backend-memfd,id=m,size=1G,share=off -M memory-backend=m", "share=on"),
            ("-object memory-backend-file,id=m,size=1G,mem-path=/dev/shm/a -M memory-backend=m", "share=on"),
            ("-object memory-backend-file,id=m,mem-path=/srv/a,share=on -M memory-backend=m", "/dev/shm"),
            (
                "-object memory-backend-file,id=m,mem-path=/dev/shm/../a,share=on -M memory-backend=m",
                "/dev/shm",
            ),
            (
                "-object memory-backend-file,id=m,mem-path=/dev/shm/a,share=on,rom=on -M memory-backend=m",
                "read-only",
            ),
            ("-object memory-backend-ram,id=m,size=1G,share=on -M memory-backend=m", "memory-backend-memfd"),
            ("-M memory-backend=m", "no -object"),
            (&format!("{shared} -numa node,memdev=m -numa node,nodeid=1"), "NUMA"),
            (&format!("{shared} -M memory-backend=m -device pc-dimm,memdev=d"), "`d` is no -object"),
            (&format!("{shared} -device pc-dimm,memdev=m"), "plugged in"),
            ("-mem-path /dev/shm", "-mem-path"),
        ] {
            let Memory::Own(found) = memory(&words(&format!("qemu -m 1G {text}"))) else { panic!("{text}") };
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn plain_memory_is_as_much_as_the_command_line_says_last() {
        for (text, size) in [
            ("-m 512", Some("512")),
            ("-m 1G,slots=2,maxmem=4G", Some("1G")),
            ("-m size=1G -m 2G", Some("2G")),
            // An object that the machine does not use.
            ("-object memory-backend-memfd,id=m,size=1G -m 1G", Some("1G")),
            ("-M q35", None),
            ("-m", None),
            ("-m slots=2", None),
        ] {
            let size = size.map(str::to_owned);
            assert_eq!(memory(&words(&format!("qemu {text}"))), Memory::Plain(size), "{text}");
        }
        assert!(shared_memory("512")[1].contains("size=512M,share=on"));
        assert!(shared_memory("1G")[1].contains("size=1G,share=on"));
    }

    #[test]
    fn a_machine_is_accelerated_where_nothing_else_is_named() {
        for (text, expected) in [
            ("qemu-system-x86_64 -m 1G", false),
            ("qemu-system-x86_64 -enable-kvm -m 1G", true),
            ("qemu-system-x86_64 -accel kvm", true),
            ("qemu-system-x86_64 -M q35,accel=kvm", true),
            ("qemu-system-x86_64 -M q35,accel=kvm:tcg", false),
            ("qemu-system-x86_64 -accel kvm -accel tcg,thread=multi", false),
            ("/usr/libexec/qemu-kvm -m 1G", true),
            ("qemu-kvm -accel tcg", false),
        ] {
            assert_eq!(is_accelerated(&words(text)), expected, "{text}");
        }
    }
}
