//! Real guests: QEMU without KVM, Debian's cloud kernel, busybox.
//!
//! [`VmBuilder::start`] returns as soon as QEMU runs, so that several guests boot side by side; the first command
//! waits for the boot (3 to 7 s on an idle machine). Neither root nor KVM is needed, except by TAP interfaces.

mod console;
mod migration;
mod nic;

use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::image::{Extras, GuestFiles};
use crate::iperf::{Iperf, IperfReport};
use crate::netns::Netns;
use crate::ping::PingReport;
use crate::process::Process;
use crate::wait::poll_until;
use console::Console;
pub use console::GuestOutput;
pub use migration::Move;
pub use nic::Nic;

/// A boot competes with other tests for the machine, and is emulated.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Lines of its console that a message about a guest shows.
const CONSOLE_TAIL: usize = 30;

/// The description of a guest to start.
#[derive(Debug)]
pub struct VmBuilder {
    name: String,
    nics: Vec<Nic>,
    addresses: Vec<String>,
    mtu: Option<u32>,
    netns: Option<String>,
    extras: Extras,
    memory: u32,
    boots_from_network: bool,
    awaits_another: bool,
}

/// The files that a guest boots from.
#[derive(Debug)]
pub struct BootFiles {
    /// The kernel image.
    pub kernel: Vec<u8>,
    /// The initial file system.
    pub initrd: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
}

impl VmBuilder {
    /// Adds a network interface; the first is `eth0` in the guest.
    pub fn nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// Adds an IPv4 or IPv6 address of `eth0` with its prefix length, as `10.9.0.2/24`.
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// The MTU of `eth0` in octets, without the Ethernet header.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Runs QEMU in a namespace, where its TAP interfaces are.
    pub fn netns(mut self, netns: &Netns) -> Self {
        self.netns = Some(netns.name().to_owned());
        self
    }

    /// Gives the guest a program of this machine, by name or path, with the libraries that it needs, as `/bin/NAME`.
    pub fn program(mut self, name: &str) -> Self {
        self.extras.programs.push(name.to_owned());
        self
    }

    /// Gives the guest another first process, a script for busybox, for one that is started by something else than
    /// [`VmBuilder::start`]. Modules are in `/modules`, in the order of `/modules/order`.
    pub fn init(mut self, script: &str) -> Self {
        self.extras.init = Some(script.to_owned());
        self
    }

    /// Gives the guest a file; the path begins with a slash.
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.extras.files.push((path.trim_start_matches('/').to_owned(), content.to_owned()));
        self
    }

    /// Gives the guest what a host of vmlan's needs of its kernel: TAP, veth, bridges, bonds, and what mode `filter`
    /// uses. VLAN interfaces every guest has.
    pub fn host(mut self) -> Self {
        self.extras.host = true;
        self
    }

    /// The guest's memory in MiB; 128 when not told.
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Boots the guest by iPXE from its first network interface; [`VmBuilder::boot_files`] has what it needs to find
    /// there.
    pub fn boot_from_network(mut self) -> Self {
        self.boots_from_network = true;
        self
    }

    /// Boots nothing: a guest that is described the same will move to it, with [`Vm::move_to`].
    pub fn awaits_another(mut self) -> Self {
        self.awaits_another = true;
        self
    }

    /// Returns what the guest boots from, for one that gets it over the network.
    ///
    /// # Panics
    /// When the kernel cannot be fetched.
    #[track_caller]
    pub fn boot_files(&self) -> BootFiles {
        let (kernel, initrd) = self.files();
        let kernel = std::fs::read(kernel).expect("the kernel can be read");
        BootFiles { kernel, initrd, command_line: self.kernel_command_line() }
    }

    /// The path of the kernel, and the initial file system.
    #[track_caller]
    fn files(&self) -> (PathBuf, Vec<u8>) {
        let files = GuestFiles::prepare()
            .unwrap_or_else(|error| panic!("no kernel for guest {}: {error}", self.name));
        let initial = files
            .initial_file_system(&self.extras)
            .unwrap_or_else(|error| panic!("no files for guest {}: {error}", self.name));
        (files.kernel, initial)
    }

    /// Starts the guest and returns while it boots.
    ///
    /// # Panics
    /// When the kernel cannot be fetched, or QEMU cannot be started.
    #[track_caller]
    pub fn start(self) -> Vm {
        let directory =
            tempfile::Builder::new().prefix("vmlan-guest-").tempdir().expect("a temporary directory");
        // QEMU connects to us, so there is no moment in which what the guest says is lost.
        let socket = directory.path().join("commands");
        let listener = UnixListener::bind(&socket).expect("a socket in a new directory");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");

        let console_log = directory.path().join("console");
        let mut qemu = match &self.netns {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, "qemu-system-x86_64"]);
                command
            }
            None => Command::new("qemu-system-x86_64"),
        };
        let memory = format!("{}M", self.memory);
        qemu.args(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-smp", "1", "-m", &memory]);
        if self.nics.iter().any(Nic::shares_memory) {
            let object = format!("memory-backend-memfd,id=memory,size={memory},share=on");
            qemu.args(["-object", &object, "-M", "q35,memory-backend=memory"]);
        } else {
            qemu.args(["-M", "q35"]);
        }
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.arg("-chardev").arg(format!("file,id=console,path={}", console_log.display()));
        qemu.arg("-chardev").arg(format!("socket,id=commands,server=off,path={}", socket.display()));
        qemu.args(["-serial", "chardev:console", "-serial", "chardev:commands"]);
        if self.boots_from_network {
            qemu.args(["-boot", "n"]);
        } else {
            let (kernel, initial) = self.files();
            let initrd = directory.path().join("initrd");
            std::fs::write(&initrd, initial).expect("a temporary file can be written");
            qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
            qemu.arg("-append").arg(self.kernel_command_line());
        }
        for (number, nic) in self.nics.iter().enumerate() {
            qemu.args(nic.arguments(number));
        }
        let monitor = directory.path().join("monitor");
        qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        if self.awaits_another {
            qemu.args(["-incoming", "defer"]);
        }
        let mut process = Process::spawn(qemu);
        let what = format!("connection of guest {}'s serial port", self.name);
        let (stream, _) =
            process.wait_while_running(&what, Duration::from_secs(30), || listener.accept().ok());
        let console = Console::new(stream).expect("a connected socket takes a timeout");
        Vm { name: self.name, process, console, console_log, directory }
    }

    /// Faster to boot under emulation: no mitigations, no calibration of timers, no self-tests, entropy at once.
    fn kernel_command_line(&self) -> String {
        let mut line =
            "console=ttyS0 quiet reboot=t panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr \
                        cryptomgr.notests random.trust_cpu=1"
                .to_owned();
        if !self.addresses.is_empty() {
            line.push_str(&format!(" guest.addresses={}", self.addresses.join(",")));
        }
        if let Some(mtu) = self.mtu {
            line.push_str(&format!(" guest.mtu={mtu}"));
        }
        line
    }
}

/// A running guest; killed on drop.
#[derive(Debug)]
pub struct Vm {
    name: String,
    process: Process,
    console: Console,
    console_log: PathBuf,
    directory: TempDir,
}

impl Vm {
    /// Describes a guest; the name appears in messages and file names.
    pub fn builder(name: &str) -> VmBuilder {
        VmBuilder {
            name: name.to_owned(),
            nics: Vec::new(),
            addresses: Vec::new(),
            mtu: None,
            netns: None,
            extras: Extras::default(),
            memory: 128,
            boots_from_network: false,
            awaits_another: false,
        }
    }

    /// Waits until the guest has set up its network and takes commands.
    ///
    /// # Panics
    /// When it has not within 120 s; the message shows its console.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let result = self.console.wait_ready(Instant::now() + BOOT_LIMIT);
        result.unwrap_or_else(|error| self.give_up("its boot", &error));
    }

    /// Runs one line of busybox shell in the guest, within 60 s (and waits for its boot before).
    ///
    /// # Panics
    /// When there is no answer in time; the message shows the guest's console.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> GuestOutput {
        self.wait_ready();
        let result = self.console.run(command, Instant::now() + COMMAND_LIMIT);
        result.unwrap_or_else(|error| self.give_up(command, &error))
    }

    /// Pings an IPv4 or IPv6 address from inside the guest; `count` requests (at most 100), 100 ms apart.
    #[track_caller]
    pub fn ping(&mut self, to: impl Into<IpAddr>, count: u32) -> PingReport {
        let to = to.into();
        let answer = self.run(&format!("ping -q -i 0.1 -W 2 -c {count} {to}"));
        PingReport::parse(&answer.output)
            .unwrap_or_else(|| panic!("ping in guest {} printed no summary: {}", self.name, answer.output))
    }

    /// Pings once at a time until an answer comes (true) or `limit` has passed (false).
    #[track_caller]
    pub fn reaches(&mut self, to: impl Into<IpAddr>, limit: Duration) -> bool {
        let to = to.into();
        self.wait_ready();
        poll_until(limit, || self.ping(to, 1).received == 1)
    }

    /// Asks for an IPv4 address of `eth0` with DHCP, and takes it; status 0 when there was a lease.
    #[track_caller]
    pub fn lease(&mut self) -> GuestOutput {
        self.run("udhcpc -i eth0 -n -q -t 5 -T 2 -s /bin/lease")
    }

    /// Measures from a namespace to an iperf3 server in the guest, which was started with that program.
    ///
    /// # Panics
    /// When either fails or takes 20 s longer than the measurement.
    #[track_caller]
    pub fn iperf3(&mut self, client: &Netns, address: impl Into<IpAddr>, wanted: Iperf) -> IperfReport {
        let port = crate::iperf::next_port();
        let log = format!("/tmp/iperf3.{port}");
        self.run(&format!("iperf3 --server --one-off --forceflush --port {port} > {log} 2>&1 &"));
        let listens = poll_until(COMMAND_LIMIT, || self.run(&format!("grep listening {log}")).status == 0);
        if !listens {
            let said = self.run(&format!("cat {log}")).output;
            panic!("iperf3 in guest {} does not listen: {said}", self.name);
        }
        crate::iperf::to_server(client, address.into(), port, wanted)
            .unwrap_or_else(|error| panic!("{error}\nguest {}: {}", self.name, self.console()))
    }

    /// Returns the text that the guest's kernel and init have written on the first serial port.
    pub fn console(&self) -> String {
        std::fs::read(&self.console_log)
            .map(|octets| String::from_utf8_lossy(&octets).into_owned())
            .unwrap_or_default()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the text that QEMU itself has written.
    pub fn log(&self) -> String {
        self.process.log()
    }

    #[track_caller]
    fn give_up(&self, waited_for: &str, error: &std::io::Error) -> ! {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = &lines[lines.len().saturating_sub(CONSOLE_TAIL)..];
        panic!(
            "guest {}: no answer to {waited_for}: {error}\nqemu: {}\nconsole: {}",
            self.name,
            self.log(),
            tail.join("\n")
        );
    }
}
