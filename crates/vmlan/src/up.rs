//! `vmlan up`: a daemon with one network that has a way out, without a file and without root.
//!
//! Everything that it makes is in one directory beside its control socket, and goes when it ends.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use vmlan_api::{ApplyReport, Outcome, PortKind};
use vmlan_daemon::config::{self, ValidConfig};
use vmlan_daemon::run::run_with;

use crate::command::{Failure, check_private, control_path, lines_for};
use crate::output::{print, tell};

/// Runs the daemon in the foreground until a signal ends it. `named` is the control socket of the command line.
pub fn run(name: &str, named: Option<&Path>) -> Result<(), Failure> {
    let control = std::path::absolute(control_path(named)?).map_err(anyhow::Error::new)?;
    let parent = control.parent().context("the control socket has no directory")?;
    // The name is checked before a directory is called so.
    let config = configuration(name, &parent.join(name)).map_err(Failure::Usage)?;
    let place = Place::make(parent, name)?;
    let text = Text { network: name, config: &config, directory: &place.directory, control: named };
    let text = text.whole();
    let ready = move |report: &ApplyReport| {
        for action in report.actions.iter().filter(|action| action.outcome == Outcome::Failed) {
            let (port, reason) = (action.port.as_deref(), action.reason.as_deref());
            tell(&format!("port {}: {}", port.unwrap_or("?"), reason.unwrap_or("the log says why")));
        }
        // The network is there although nobody reads how to use it, and a reader may take its time.
        let say = move || drop(print(&text));
        if let Err(error) = std::thread::Builder::new().name("text".into()).spawn(say) {
            tell(&format!("what to write for machines cannot be told: {error}"));
        }
    };
    Ok(run_with(config, control, ready)?)
}

/// The directory of the network's sockets; removed when dropped, once they are gone.
struct Place {
    directory: PathBuf,
}

impl Place {
    fn make(parent: &Path, name: &str) -> anyhow::Result<Place> {
        let directory = parent.join(name);
        let make = |directory: &Path, mode| {
            let made = DirBuilder::new().recursive(true).mode(mode).create(directory);
            made.with_context(|| format!("{} cannot be made", directory.display()))
        };
        // As the daemon makes the directory of its control socket.
        make(parent, 0o711)?;
        make(&directory, 0o700)?;
        check_private(&directory)?;
        Ok(Place { directory })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is in it is another daemon's, which keeps it.
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// The configuration of a network of this name, with its sockets in `directory`.
fn configuration(name: &str, directory: &Path) -> Result<ValidConfig, String> {
    let path = |name: &str| directory.join(name).to_str().map(str::to_owned);
    let network = vmlan_api::NetworkConfig {
        uplink: Some(vmlan_api::UplinkConfig::default()),
        port: [
            (
                "stream".to_owned(),
                vmlan_api::PortConfig {
                    stream: Some(vmlan_api::StreamConfig {
                        listen: path("stream.sock"),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ),
            (
                "datagram".to_owned(),
                vmlan_api::PortConfig {
                    datagram: Some(vmlan_api::DatagramConfig {
                        listen: path("datagram.sock"),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ),
            (
                "vde".to_owned(),
                vmlan_api::PortConfig {
                    vde: Some(vmlan_api::VdeConfig { directory: path("vde"), ..Default::default() }),
                    ..Default::default()
                },
            ),
        ]
        .into(),
        ..Default::default()
    };
    let config = vmlan_api::Config { network: [(name.to_owned(), network)].into(), ..Default::default() };
    config::validate(config).map_err(|faults| {
        faults.first().map_or_else(|| "it cannot be set up".to_owned(), |fault| fault.message.clone())
    })
}

/// The words about the network for people.
struct Text<'a> {
    network: &'a str,
    config: &'a ValidConfig,
    directory: &'a Path,
    /// The control socket, where it is not the usual one.
    control: Option<&'a Path>,
}

impl Text<'_> {
    fn whole(&self) -> String {
        let network = self.network;
        let mut text = self.gives();
        let sockets = [
            ("stream", PortKind::Stream, "stream.sock", &["QEMU 7.2", "krunkit"][..]),
            ("datagram", PortKind::Datagram, "datagram.sock", &["QEMU 7.2", "vfkit"]),
            ("vde", PortKind::Vde, "vde", &["QEMU with VDE"]),
        ];
        for (port, kind, socket, programs) in sockets {
            let guests = if kind == PortKind::Vde { "any number of guests" } else { "one guest" };
            text.push_str(&format!("\nport {port}, for {guests}:\n"));
            for (program, what) in lines_for(network, port, kind, &self.directory.join(socket), programs) {
                // Later ones take what the first did.
                let program = if program == "QEMU 7.2" { "QEMU 7.2 or later" } else { program };
                text.push_str(&format!("  {program}:\n    {what}\n"));
            }
        }
        let control = self.control.map(|path| format!(" --control {}", path.display())).unwrap_or_default();
        let (domain, rest) = (self.domain(), network);
        text.push_str(&format!(
            "\nmore, each with a port and a name of its own ({domain}):\n  vmlan{control} vm {rest} -- \
             qemu-system-x86_64 -m 1G -drive file=IMAGE,if=virtio\n  vmlan{control} forward add {rest} 2222=stream:22\n  \
             vmlan{control} leases; vmlan{control} flows; vmlan{control} uplink\n\nCtrl-C ends it.\n"
        ));
        text
    }

    fn settings(&self) -> Option<&config::uplink::UplinkSettings> {
        self.config.port(self.network, "uplink")?.settings.uplink.as_deref()
    }

    /// A line about addresses and names.
    fn gives(&self) -> String {
        let Some(settings) = self.settings() else { return String::new() };
        let report = settings.report(self.network);
        format!(
            "network {}: addresses {} by DHCP, gateway and DNS {}, names PORT.{}\n",
            self.network,
            report.pool.unwrap_or_default(),
            report.gateway.join(" and "),
            report.domain.unwrap_or_default(),
        )
    }

    fn domain(&self) -> String {
        let domain = self.settings().and_then(|settings| Some(settings.dns.as_ref()?.domain.clone()));
        format!("VM.{}", domain.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_lines_for_every_program_and_the_real_paths() {
        let directory = Path::new("/run/user/1000/vmlan/lab");
        let config = configuration("lab", directory).expect("a good name");
        let text = Text { network: "lab", config: &config, directory, control: None }.whole();
        for part in [
            "network lab: addresses 10.213.",
            "names PORT.lab.internal",
            "-netdev stream,id=n,server=off,addr.type=unix,addr.path=/run/user/1000/vmlan/lab/stream.sock -device",
            "-netdev dgram,id=n,local.type=unix",
            "--device virtio-net,unixSocketPath=/run/user/1000/vmlan/lab/datagram.sock,mac=52:54:00:",
            "--device virtio-net,type=unixstream,path=/run/user/1000/vmlan/lab/stream.sock",
            "-netdev vde,id=n,sock=/run/user/1000/vmlan/lab/vde",
            "vmlan vm lab -- qemu-system-x86_64",
            "Ctrl-C ends it.",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let named = Text { network: "lab", config: &config, directory, control: Some(Path::new("/x.sock")) };
        assert!(named.whole().contains("vmlan --control /x.sock vm lab"));
    }

    #[test]
    fn a_bad_name_is_refused() {
        let error = configuration("a/b", Path::new("/run")).expect_err("a bad name");
        assert!(error.contains("is no name for a network"), "{error}");
    }
}
