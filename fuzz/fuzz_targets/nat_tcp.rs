//! TCP of guests on an uplink: any segments, sockets and times; what is kept stays within its limits, and nothing is
//! left when all flows are closed.
#![no_main]

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::wire::{IpProtocol, TcpFlags, TcpRepr, TcpSegment};
use vmlan_frame::{Frame, Instant, MacAddr, Offload, Pool, PoolSizes};
use vmlan_nat::envelope::Subnet4;
use vmlan_nat::guests::{Guests, Limits, Usage};
use vmlan_nat::reach::{Plan, Reach};
use vmlan_nat::tcp::{Failure, FlowId, GuestEnd, Read, Settings, Sockets, Target, Tcp, Turn};
use vmlan_nat::{Envelope, Keyed, Packet, Rates};

const GATEWAY: MacAddr = MacAddr([6, 0, 0, 0, 0, 1]);
const GUEST: MacAddr = MacAddr([6, 0, 0, 0, 0, 9]);
const LIMITS: Limits = Limits { flows: 6, new_per_second: 100, half_open: 4, memory: 256 << 10 };
const MEMORY: usize = 400 << 10;

#[derive(Default)]
struct Socket {
    room: usize,
    input: usize,
    has_end: bool,
    has_failed: bool,
    is_shut: bool,
}

#[derive(Default)]
struct Fake {
    open: HashMap<FlowId, Socket>,
    answer: u8,
}

fn failure(number: u8) -> Failure {
    match number % 6 {
        0 => Failure::Refused,
        1 => Failure::Reset,
        2 => Failure::NetworkUnreachable,
        3 => Failure::HostUnreachable,
        4 => Failure::Denied,
        _ => Failure::NoDescriptor,
    }
}

impl Sockets for Fake {
    fn connect(&mut self, flow: FlowId, _: GuestEnd, _: &Target<'_>) -> Result<(), Failure> {
        if self.answer % 4 == 1 {
            return Err(failure(self.answer / 4));
        }
        assert!(self.open.insert(flow, Socket::default()).is_none());
        Ok(())
    }

    fn send(&mut self, flow: FlowId, slices: &[IoSlice<'_>]) -> Result<usize, Failure> {
        let socket = self.open.get_mut(&flow).unwrap();
        let octets: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(!socket.is_shut && octets > 0 && slices.len() <= 64);
        if socket.has_failed {
            return Err(Failure::Reset);
        }
        let sent = octets.min(socket.room);
        socket.room -= sent;
        Ok(sent)
    }

    fn receive(&mut self, flow: FlowId, buffer: &mut [u8]) -> Read {
        let socket = self.open.get_mut(&flow).unwrap();
        let len = socket.input.min(buffer.len());
        socket.input -= len;
        match len {
            0 if socket.has_failed => Read::Failed(Failure::Reset),
            0 if socket.has_end => Read::End,
            0 => Read::Nothing,
            len => Read::Octets(len),
        }
    }

    fn shutdown(&mut self, flow: FlowId) {
        assert!(!std::mem::replace(&mut self.open.get_mut(&flow).unwrap().is_shut, true));
    }

    fn close(&mut self, flow: FlowId, _: bool) {
        assert!(self.open.remove(&flow).is_some());
    }

    fn error(&mut self, flow: FlowId) -> Option<Failure> {
        self.open[&flow].has_failed.then_some(failure(self.answer))
    }
}

struct World {
    tcp: Tcp,
    sockets: Fake,
    reach: Reach,
    guests: Guests,
    rates: Rates,
    now: Instant,
    pool: Pool,
    out: VecDeque<Frame>,
    /// The numbers that each guest would go on with, by its port.
    next: [(u32, u32); 4],
}

impl World {
    fn turn(&mut self) -> (&mut Tcp, Turn<'_, Fake>) {
        let World { tcp, sockets, reach, guests, rates, now, pool, out, .. } = self;
        (tcp, Turn { sockets, reach, guests, rates, now: *now, pool, out })
    }

    /// A segment of a guest, near the numbers that are right.
    fn segment(&self, which: u8, octets: &[u8]) -> Option<Frame> {
        let byte = |place: usize| octets.get(place).copied().unwrap_or(0);
        let port = which & 3;
        let (sequence, acknowledgement) = self.next[usize::from(port)];
        let off = |number: u8| match number {
            0..=200 => 0,
            201..=230 => u32::from(number).wrapping_sub(215),
            _ => u32::from(number) << 24,
        };
        let flags = match byte(0) {
            0..=99 => TcpFlags::ACK,
            100..=149 => TcpFlags::SYN,
            150..=169 => TcpFlags::ACK | TcpFlags::FIN,
            170..=179 => TcpFlags::RST,
            other => TcpFlags(u16::from(other & 63)),
        };
        let options: &[u8] = match byte(4) & 3 {
            0 => &[2, 4, 5, 0xb4, 1, 3, 3, 7],
            1 => &[2, 4, 0, 100],
            2 => octets.get(8..12).unwrap_or_default(),
            _ => &[],
        };
        let segment = TcpRepr {
            source_port: 1000 + u16::from(port),
            destination_port: 80,
            sequence: sequence.wrapping_add(off(byte(1))),
            acknowledgement: acknowledgement.wrapping_add(off(byte(2))),
            flags,
            window: u16::from(byte(3)) << (byte(4) >> 5),
            urgent: 0,
            options,
        };
        let len = usize::from(byte(5)) << (byte(6) & 7);
        let ends = ([10, 0, 0, 16 + (which >> 2 & 1)].into(), [192, 0, 2, 7].into());
        let envelope = Envelope::new(GATEWAY, GUEST, ends, IpProtocol::TCP)?;
        let header = segment.header_len();
        let mut frame = envelope.frame(&self.pool, header + len, |octets, addresses| {
            octets[header..].fill(7);
            segment.emit(octets, addresses);
        })?;
        frame.meta.ingress = 1 + u16::from(which >> 2 & 1);
        frame.meta.offload.flags = Offload::CHECKSUM_VALID;
        Some(frame)
    }

    /// Looks at what goes to guests.
    fn look(&mut self, refuse: bool) {
        let frames: Vec<Frame> = self.out.drain(..).collect();
        for frame in &frames {
            if frame.ethertype() == Some(0x0806) {
                // Guests that are called are looked for.
                continue;
            }
            let packet = Packet::parse(frame).expect("a packet");
            if packet.protocol == IpProtocol::TCP {
                let tcp = TcpSegment::new_checked(packet.upper).expect("a segment");
                let count = tcp.payload().len() as u32
                    + u32::from(tcp.flags().intersects(TcpFlags::SYN | TcpFlags::FIN));
                let place = usize::from(tcp.destination_port() & 3);
                self.next[place] = (tcp.acknowledgement(), tcp.sequence().wrapping_add(count));
            }
            if refuse {
                let (tcp, mut turn) = self.turn();
                tcp.refused(&mut turn, frame);
            }
        }
    }
}

fuzz_target!(|steps: Vec<(u8, u8, Vec<u8>)>| {
    let subnet = Subnet4 { network: [10, 0, 0, 0].into(), prefix: 24 };
    let key = Keyed([1, 2]);
    let own = Pool::new(PoolSizes { small: 48, large: 6, bulk: 0 });
    let start = Instant::from_secs(1_000);
    let settings = Settings { mac: GATEWAY, mtu: 1500, key, memory: MEMORY };
    let mut world = World {
        tcp: Tcp::new(settings, own.clone(), start),
        sockets: Fake::default(),
        reach: Reach::new(Plan { subnet4: Some(subnet), ..Plan::default() }, key.0),
        guests: Guests::new(Some(subnet), None, LIMITS),
        // Every other run has a rate.
        rates: Rates::new(if steps.len() % 2 == 0 { 0 } else { 1_000_000 }),
        now: start,
        pool: Pool::new(PoolSizes { small: 512, large: 4, bulk: 0 }),
        out: VecDeque::new(),
        next: [(1, 1); 4],
    };
    world.guests.is_own([10, 0, 0, 16].into(), GUEST, 1);
    for (what, which, octets) in steps.iter().take(512) {
        let byte = octets.first().copied().unwrap_or(0);
        let mut flows: Vec<FlowId> = world.sockets.open.keys().copied().collect();
        flows.sort_by_key(|flow| (flow.slot, flow.generation));
        let flow = flows.get(usize::from(*which) % flows.len().max(1)).copied();
        match what % 16 {
            0..=4 => {
                if let Some(frame) = world.segment(*which, octets)
                    && let Ok(packet) = Packet::parse(&frame)
                {
                    let (tcp, mut turn) = world.turn();
                    let _ = tcp.take(&mut turn, &packet, &frame);
                }
                if what & 64 == 0 {
                    let (tcp, mut turn) = world.turn();
                    tcp.flush(&mut turn);
                }
            }
            5..=7 => {
                let (tcp, mut turn) = world.turn();
                tcp.poll(&mut turn, usize::from(*which));
                world.look(what & 128 != 0);
            }
            8..=11 => {
                if let Some(flow) = flow {
                    let socket = world.sockets.open.get_mut(&flow).unwrap();
                    match what % 16 {
                        8 => socket.input += usize::from(byte) << (which & 7),
                        9 => socket.room += usize::from(byte) << (which & 7),
                        10 => socket.has_end |= byte & 1 == 1,
                        _ => socket.has_failed |= byte & 3 == 3,
                    }
                    let (tcp, mut turn) = world.turn();
                    tcp.ready(&mut turn, flow, (byte & 128 == 0, byte & 64 == 0));
                }
            }
            12 => {
                let step = Duration::from_micros(100) * (u32::from(*which) << (byte & 15));
                world.now = match world.tcp.deadline() {
                    Some(at) if byte & 128 == 0 => at.max(world.now),
                    _ => world.now + step,
                };
            }
            13 => world.sockets.answer = *which,
            14 => {
                let caller = SocketAddr::from(([198, 51, 100, 7], u16::from(*which)));
                let (tcp, mut turn) = world.turn();
                if let Some(flow) = tcp.call(&mut turn, ([10, 0, 0, 16 + (byte & 1)], 1000).into(), caller) {
                    world.sockets.open.insert(flow, Socket::default());
                    let (tcp, mut turn) = world.turn();
                    tcp.begin_call(&mut turn, flow);
                }
            }
            _ => {
                let (now, ingress) = (world.now, u16::from(*which & 3));
                let (tcp, mut turn) = world.turn();
                match byte & 3 {
                    0 => tcp.port_away(ingress, now),
                    1 => tcp.port_back(&mut turn, ingress),
                    2 => tcp.question(&mut turn, ingress),
                    _ => {
                        tcp.close_where(&mut turn, |flow| flow.id.slot == u32::from(*which & 7));
                    }
                }
            }
        }
        assert!(world.tcp.memory() <= MEMORY && world.tcp.len() <= 3 * 6);
        for ingress in 0..4 {
            let usage = world.guests.usage(ingress);
            assert!(usage.flows <= LIMITS.flows && usage.memory <= LIMITS.memory);
        }
        if world.out.len() > 256 {
            world.look(false);
        }
    }
    world.out.clear();
    let (tcp, mut turn) = world.turn();
    tcp.close_where(&mut turn, |_| true);
    // The pauses of flows that are gone, and connections that were to be begun.
    for _ in 0..8 {
        world.now = world.now + Duration::from_secs(200);
        let (tcp, mut turn) = world.turn();
        tcp.poll(&mut turn, 1 << 16);
        world.out.clear();
    }
    assert!(world.tcp.is_empty() && world.sockets.open.is_empty() && !world.tcp.has_work());
    assert_eq!((own.out(), world.pool.out(), world.tcp.memory(), world.tcp.deadline()), (0, 0, 0, None));
    for ingress in 0..4 {
        assert_eq!(world.guests.usage(ingress), Usage::default());
    }
});
