//! Attacks with what a front end says: messages that are wrong, too many or too slow, with descriptors that nobody
//! wants.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::epoll;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

use super::ports;
use crate::attack::{Attack, Card, Field, Held};
use crate::peers::Lingering;
use crate::probe::mac;
use crate::vhost::{
    FEATURES, FrontEnd, Kind, MOST, Memory, NEED_REPLY, OCTETS, RX, Ring, TX, VERSION, event, feature, longs,
    message, wait_log, words,
};
use crate::wire::{MacAddr, attacker};

const RINGS: [Ring; 2] = [Ring { index: RX, num: 256 }, Ring { index: TX, num: 256 }];

/// A guest with running rings that have nothing.
fn idle(front: &mut FrontEnd) -> io::Result<Memory> {
    let memory = Memory::new(OCTETS)?;
    front.run(FEATURES, &memory, RINGS)?;
    Ok(memory)
}

/// Descriptors that nobody wants, as many as go along, and one that lingers among them.
pub(super) struct Strays;

impl Strays {
    const PORTS: usize = 4;

    /// Sends a message with the most descriptors that there can be, one of which takes a minute to be closed.
    fn send(front: &FrontEnd, kind: Kind, body: &[u8], all: &[OwnedFd]) -> io::Result<Lingering> {
        let mut lingering = Lingering::new()?;
        let octets = message(kind as u32, VERSION, body);
        // The daemon may have closed the socket for those before.
        let _ = lingering.pass(|near| {
            let others = all.iter().map(AsFd::as_fd).take(MOST - 1);
            let descriptors: Vec<BorrowedFd<'_>> = others.chain([near]).collect();
            front.send_octets(&octets, &descriptors).map(|_| true)
        });
        Ok(lingering)
    }
}

impl Attack for Strays {
    fn card(&self) -> Card {
        Card::new(
            "vhost-descriptors",
            "front ends send 253 descriptors with every message, of which one lingers, and second ones do too",
        )
        .at_ports(Strays::PORTS)
    }

    fn config(&self, _: &Field) -> String {
        ports("d", Strays::PORTS)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let all: Vec<OwnedFd> = (0..MOST).map(|_| event()).collect::<io::Result<_>>()?;
        let (mut lingering, mut fronts) = (Vec::new(), Vec::new());
        for round in 0.. {
            if field.is_over() {
                break;
            }
            let name = format!("d{}.sock", round % Strays::PORTS);
            let Ok(front) = FrontEnd::connect(&field.path(&name)) else { continue };
            // Those that take some, those that take none, and those that are never read.
            let sent = match round / Strays::PORTS % 3 {
                0 => vec![(Kind::GetFeatures, Vec::new()), (Kind::SetFeatures, longs(&[FEATURES]))],
                1 => vec![(Kind::SetVringCall, longs(&[0])), (Kind::GetFeatures, Vec::new())],
                _ => vec![(Kind::GetFeatures, Vec::new()); 3],
            };
            for (kind, body) in sent {
                lingering.push(Strays::send(&front, kind, &body, &all)?);
            }
            // Half of them stay, so that the next one at their port is a second one.
            if round % 2 == 0 {
                fronts.push(front);
            }
            field.pause(Duration::from_millis(15));
        }
        field.note(format!("{} messages with {MOST} descriptors", lingering.len()));
        drop(all);
        // What lingers is let go of before the sockets that it went through.
        drop(lingering);
        Ok(Box::new(fronts))
    }
}

/// Messages that break the rules, one for each port.
pub(super) struct Wrong;

/// A step of a front end that is wrong, while its guest's rings run.
type Fault = fn(&FrontEnd, &Memory) -> anyhow::Result<()>;

/// Passes a descriptor as a ring's kick, call or error.
fn pass(front: &FrontEnd, kind: Kind, fd: impl AsFd) -> anyhow::Result<()> {
    Ok(front.send(kind, &longs(&[TX.into()]), &[fd.as_fd()])?)
}

/// Each of them, with the text that the log has to have.
const FAULTS: &[(&str, &str, Fault)] = &[
    ("a listening socket as a kick", "no eventfd", |front, _| {
        pass(front, Kind::SetVringKick, TcpListener::bind("127.0.0.1:0")?)
    }),
    ("its own socket as a call", "no eventfd", |front, _| pass(front, Kind::SetVringCall, &front.socket)),
    ("an epoll as a kick", "no eventfd", |front, _| {
        pass(front, Kind::SetVringKick, epoll::create(epoll::CreateFlags::CLOEXEC)?)
    }),
    ("a timer as a kick", "no eventfd", |front, _| {
        pass(front, Kind::SetVringKick, timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?)
    }),
    ("memory as a call", "no eventfd", |front, memory| pass(front, Kind::SetVringCall, &memory.file)),
    ("a device as an error", "no eventfd", |front, _| {
        pass(front, Kind::SetVringErr, File::open("/dev/null")?)
    }),
    ("half of a pair as an error", "no eventfd", |front, _| {
        pass(front, Kind::SetVringErr, UnixStream::pair()?.0)
    }),
    ("two descriptors as a kick", "2 descriptors", |front, _| {
        let (one, other) = (event()?, event()?);
        Ok(front.send(Kind::SetVringKick, &longs(&[0]), &[one.as_fd(), other.as_fd()])?)
    }),
    ("other features while rings run", "while rings are started", |front, _| {
        Ok(front.send(Kind::SetFeatures, &longs(&[FEATURES & !feature::MRG_RXBUF]), &[])?)
    }),
    ("packed rings while split ones run", "while rings are started", |front, _| {
        Ok(front.send(Kind::SetFeatures, &longs(&[FEATURES | feature::RING_PACKED]), &[])?)
    }),
    ("features that nobody offered", "not offered", |front, _| {
        Ok(front.send(Kind::SetFeatures, &longs(&[u64::MAX]), &[])?)
    }),
    ("another version", "version", |front, _| Ok(front.write(&message(Kind::GetFeatures as u32, 2, &[]))?)),
    ("an answer", "an answer", |front, _| {
        Ok(front.write(&message(Kind::GetFeatures as u32, VERSION | 4, &[]))?)
    }),
    ("a request that was not offered", "not offered", |front, _| {
        Ok(front.write(&message(39, VERSION, &longs(&[0])))?)
    }),
    ("a body that is too long", "octets", |front, _| {
        Ok(front.write(&words(&[Kind::SetMemTable as u32, VERSION, u32::MAX]))?)
    }),
    ("a ring that nobody offered", "ring 255", |front, _| {
        Ok(front.send(Kind::SetVringEnable, &words(&[255, 1]), &[])?)
    }),
    ("another length of a ring that runs", "while it is started", |front, _| {
        Ok(front.send(Kind::SetVringNum, &words(&[TX, 128]), &[])?)
    }),
    ("a kick without addresses", "before its length", |front, _| {
        let kick = event()?;
        Ok(front.send(Kind::SetVringKick, &longs(&[2]), &[kick.as_fd()])?)
    }),
    ("memory over other memory", "overlaps another", |front, memory| {
        let [guest, octets, user, _] = memory.region();
        let region = longs(&[0, guest + 4096, octets - 4096, user + (1 << 40), 4096]);
        Ok(front.send(Kind::AddMemReg, &region, &[memory.file.as_fd()])?)
    }),
];

impl Attack for Wrong {
    fn card(&self) -> Card {
        Card::new(
            "vhost-wrong",
            "messages that cannot be, descriptors of the wrong kind, other features while rings run",
        )
        .property()
        .at_ports(FAULTS.len())
    }

    fn config(&self, _: &Field) -> String {
        ports("w", FAULTS.len())
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        for (number, (what, _, fault)) in FAULTS.iter().enumerate() {
            let mut front = FrontEnd::patient(field, &format!("w{number}"))?;
            let memory = idle(&mut front)?;
            fault(&front, &memory).with_context(|| (*what).to_owned())?;
            if !front.is_left(field.patience) {
                field.broken(format!("{what}: the connection stays"));
            }
        }
        for (number, (what, says, _)) in FAULTS.iter().enumerate() {
            wait_log(field, &format!("w{number}"), says, what);
        }
        Ok(Box::new(()))
    }
}

/// Front ends that leave messages half sent, send an octet now and then, or take no answers.
pub(super) struct Slow;

impl Slow {
    const PORTS: usize = 6;

    /// Asks without reading, until no more goes in.
    fn ask_on(front: &FrontEnd) {
        let question = message(Kind::GetFeatures as u32, VERSION, &[]).repeat(64);
        while front.write(&question).is_ok() {}
    }
}

impl Attack for Slow {
    fn card(&self) -> Card {
        Card::new(
            "vhost-slow",
            "front ends that stop within messages, send single octets, or take no answers",
        )
        .at_ports(Slow::PORTS)
        .for_at_least(Duration::from_millis(1500))
    }

    fn config(&self, _: &Field) -> String {
        ports("s", Slow::PORTS)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let served = |port: usize| FrontEnd::served(field, &format!("s{port}"));
        let fronts: Option<Vec<FrontEnd>> = (0..Slow::PORTS).map(served).collect();
        let Some(fronts) = fronts else { return Ok(Box::new(())) };
        let half = message(Kind::SetFeatures as u32, VERSION, &longs(&[FEATURES]));
        for (number, front) in fronts.iter().enumerate() {
            match number % 3 {
                0 => front.write(&half[..5])?,
                1 => front.write(&half[..half.len() - 1])?,
                _ => Slow::ask_on(front),
            }
        }
        // Single octets, which are a message in time, or not.
        if let Some(front) = FrontEnd::connect(&field.path("s0.sock")).ok().filter(|_| !field.is_over()) {
            for octet in &half {
                field.pause(Duration::from_millis(100));
                if front.write(&[*octet]).is_err() {
                    break;
                }
            }
        }
        for (number, front) in fronts.iter().enumerate() {
            if !front.is_left_unread(field.patience) {
                field.broken(format!("port s{number} waits for its front end for ever"));
            }
        }
        Ok(Box::new(()))
    }
}

/// Front ends that change rings, as fast as they can.
pub(super) struct Flood;

impl Flood {
    const PORTS: usize = 4;

    /// Says one thing after the other until the end.
    fn say(field: &Field, front: &FrontEnd, number: usize) -> io::Result<u64> {
        let mut said = 0;
        while !field.is_over() {
            let on = (said % 2) as u32;
            match number {
                0 => front.send(Kind::SetVringEnable, &words(&[RX + on, (said / 2 % 2) as u32]), &[])?,
                1 => front.kick(TX, &front.kicks[1])?,
                2 => {
                    front.stop(TX)?;
                    front.kick(TX, &front.kicks[1])?;
                }
                _ => {
                    let other = Ring { index: TX, num: 256 }.addresses((on == 1).then_some(0));
                    front.send(Kind::SetVringAddr, &other, &[])?;
                    front.send(Kind::SetVringCall, &longs(&[TX.into()]), &[front.calls[1].as_fd()])?;
                    front.write(&message(Kind::SetOwner as u32, VERSION | NEED_REPLY, &[]))?;
                    front.answer()?;
                }
            }
            said += 1;
        }
        Ok(said)
    }
}

impl Attack for Flood {
    fn card(&self) -> Card {
        Card::new("vhost-messages", "front ends enable, start, stop and change their rings without end")
            .by(Flood::PORTS)
            .at_ports(Flood::PORTS)
    }

    fn config(&self, _: &Field) -> String {
        ports("n", Flood::PORTS)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("n{number}")) else {
            return Ok(Box::new(()));
        };
        let memory = idle(&mut front)?;
        // A daemon that keeps a flood waiting takes no more of it.
        if let Ok(said) = Flood::say(field, &front, number) {
            field.note(format!("{said} messages of front end {number}"));
        }
        front.wait_up_to(field.patience)?;
        Ok(Box::new((front, memory)))
    }
}

/// Connections without end.
pub(super) struct Connections;

impl Attack for Connections {
    fn card(&self) -> Card {
        Card::new("vhost-connections", "front ends connect, say half a word and leave, as fast as they can")
            .by(2)
            .at_ports(2)
    }

    fn config(&self, _: &Field) -> String {
        ports("c", 2)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        // Beside one that stays there are only second ones.
        let first = if number == 0 { FrontEnd::served(field, "c0") } else { None };
        let path = field.path(&format!("c{number}.sock"));
        let mut count = 0_u64;
        while !field.is_over() {
            // A listener that does not take more is a defence.
            let Ok(front) = FrontEnd::connect(&path) else { continue };
            if count.is_multiple_of(2) {
                let _ = front.write(&[1, 0, 0]);
            }
            count += 1;
        }
        field.note(format!("{count} connections to port c{number}"));
        if let Some(first) = &first {
            first.wait_up_to(field.patience)?;
            if first.ask(Kind::GetFeatures, &[], &[]).is_err() {
                field.broken("a front end is sent away for others that came");
            }
        }
        Ok(Box::new(first))
    }
}

/// A guest's announcements in others' names.
pub(super) struct Announcements;

impl Announcements {
    /// Claims that `mac` is here, and is told that this was understood.
    fn announce(front: &FrontEnd, mac: MacAddr) -> io::Result<()> {
        let body = [&mac.0[..], &[0, 0]].concat();
        front.write(&message(Kind::SendRarp as u32, VERSION | NEED_REPLY, &body))?;
        front.answer().map(drop)
    }
}

impl Attack for Announcements {
    fn card(&self) -> Card {
        Card::new("vhost-announcements", "front ends announce others' guests, and thousands, all the time")
            .by(2)
            .at_ports(2)
    }

    fn config(&self, _: &Field) -> String {
        format!(
            "{}[network.lab.port.a1]\nvhost_user = {{ listen = \"a1.sock\" }}\nmac = \"{}\"\n",
            ports("a", 1),
            attacker(1)
        )
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("a{number}")) else {
            return Ok(Box::new(()));
        };
        let memory = Memory::new(OCTETS)?;
        front.share(FEATURES, &memory)?;
        front.wait_up_to(field.patience)?;
        let mut announced = 0;
        let start = Instant::now();
        while !field.is_over() {
            // Only a port with an address of its own is kept from others'; without one there are thousands.
            let mac = match (number, announced % 3) {
                (1, which) => mac(1, which as u8),
                (_, 2) => MacAddr::BROADCAST,
                _ => attacker(announced),
            };
            Announcements::announce(&front, mac).context("an announcement")?;
            announced += 1;
            if announced == 300 {
                idle(&mut front)?;
            }
        }
        field.note(format!("{announced} announcements in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(Box::new((front, memory)))
    }
}
