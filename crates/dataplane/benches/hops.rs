//! Where a frame's time goes in vmlan itself: plain frames of 64 octets in batches of 64, from a guest to 1, 2 and 8
//! other guests in turns, hop by hop; and to one beside a trunk.
//!
//! `cargo bench -p vmlan-dataplane --bench hops` prints two figures a frame for each hop: nanoseconds, the least of
//! many slices; and instructions, which callgrind counts exactly whatever else the machine does. Without valgrind
//! the latter are left out.
//!
//! A batch has one flow to each of its receivers. Frames are made of the pool's buffers, as a driver makes them, and
//! dropped at the end.

use std::env;
use std::hint::black_box;
use std::mem;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use vmlan_frame::{Batch, Context, Counters, MacAddr, Pool, PoolSizes, Size, Takes};
use vmlan_lan::{
    Egress, FdbConfig, Forwarder, Limits, Network, NetworkConfig, PortConfig, PortId, TrunkConfig,
    TrunkPolicy,
};
use vmlan_link::{BridgeGuard, Link, LinkOptions, Registry, Transmit};

/// A function of [`Way`] that is not inlined. Callgrind counts in it alone.
type Hop = fn(&mut Way);

const HOPS: [(&str, Hop); 5] = [
    ("take", Way::take),
    ("input", Way::input),
    ("forward", Way::forward),
    ("output", Way::output),
    ("give_back", Way::give_back),
];

/// A row of the table: its name, how many receivers there are, and whether there is a trunk.
const ROWS: [(&str, usize, bool); 4] = [
    ("1 receiver", 1, false),
    ("2 receivers", 2, false),
    ("8 receivers", 8, false),
    ("1 beside a trunk", 1, true),
];

/// Batches that callgrind counts.
const COUNTED: u64 = 200;

/// Batches of a slice, and slices.
const TIMED: (u32, usize) = (100, 200);

/// Two ends of the way, what is between them, and the batches that are on it.
struct Way {
    _registry: Registry,
    _bridges: Vec<BridgeGuard>,
    network: Arc<Network>,
    forwarder: Forwarder,
    egress: Egress,
    links: Vec<Link>,
    ports: Vec<PortId>,
    headers: Vec<[u8; 64]>,
    pool: Pool,
    batch: Batch,
    sent: Vec<Batch>,
}

/// A medium without offloads: it takes a batch that asks for nothing. What it had is the batch's next room.
struct Medium<'a>(&'a mut Batch);

impl Transmit for Medium<'_> {
    fn transmit(&mut self, batch: &mut Batch) {
        assert!(batch.iter().all(|frame| Takes::NONE.takes(frame.meta.offload)), "plain frames");
        mem::swap(self.0, batch);
    }
}

/// A worker brings every frame into the form that a port takes, so its links take all.
fn options(name: &str) -> LinkOptions {
    LinkOptions { capabilities: Takes::ALL, ..LinkOptions::ethernet(name).expect("a good name") }
}

fn mac(number: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number as u8])
}

impl Way {
    fn new(receivers: usize, beside_trunk: bool) -> Way {
        let registry = Registry::new(1, || SystemTime::UNIX_EPOCH);
        let network = Network::new(NetworkConfig {
            name: "bench".into(),
            mtu: 1500,
            fdb: FdbConfig::new([1, 2]),
            pass_reserved: false,
        });
        let (mut links, mut bridges, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..=receivers {
            let name = format!("guest{number}");
            let link = registry.acquire(options(&name)).expect("room");
            link.attach(Arc::new(()), None).expect("nothing stands in the way");
            bridges.push(link.attach_bridge().expect("the place is free"));
            let mut config = PortConfig::new(name, link.account());
            config.limits = Limits::default();
            let id = network.add_port(config).expect("room for a port");
            network.set_active(id, true).expect("the port is there");
            links.push(link);
            ports.push(id);
        }
        if beside_trunk {
            let config = TrunkConfig {
                name: "trunk".into(),
                policy: TrunkPolicy::default(),
                notify: Arc::new(|_| {}),
                account: Arc::new(Counters::new(1)).into(),
            };
            let id = network.add_trunk(config).expect("room for a port");
            network.set_active(id, true).expect("the port is there");
        }
        let header = |to: usize, from: usize| {
            let mut octets = [0; 64];
            octets[..6].copy_from_slice(&mac(to).0);
            octets[6..12].copy_from_slice(&mac(from).0);
            octets[12..14].copy_from_slice(&[8, 0]);
            octets
        };
        let forwarder = Forwarder::new(Arc::clone(&network));
        let mut way = Way {
            _registry: registry,
            _bridges: bridges,
            network,
            forwarder,
            egress: Egress::new(4 * Batch::LIMIT),
            headers: Vec::from_iter((0..receivers).map(|to| header(1 + to, 0))),
            pool: Pool::new(PoolSizes { small: 4 * Batch::LIMIT, large: 1, bulk: 1 }),
            batch: Batch::new(),
            sent: Vec::from_iter(links.iter().map(|_| Batch::new())),
            links,
            ports,
        };
        // Every guest is heard once.
        for number in 1..=receivers {
            let frame = way.pool.copy(&header(0, number)).expect("a free buffer");
            way.batch.push(frame);
            way.forward_from(number);
            way.output();
            way.give_back();
        }
        way
    }

    /// Makes frames of buffers.
    #[inline(never)]
    fn take(&mut self) {
        for header in self.headers.iter().cycle().take(Batch::LIMIT) {
            let mut buffer = self.pool.take(Size::Small).expect("a free buffer");
            buffer[..header.len()].copy_from_slice(header);
            self.batch.push(buffer.into_frame(0..header.len()));
        }
    }

    #[inline(never)]
    fn input(&mut self) {
        let cx = Context { worker: 0, now: vmlan_frame::Instant::from_secs(1), pool: &self.pool };
        self.links[0].input(&cx, &mut self.batch);
    }

    #[inline(never)]
    fn forward(&mut self) {
        self.forward_from(0);
    }

    #[inline(always)]
    fn forward_from(&mut self, number: usize) {
        let cx = Context { worker: 0, now: vmlan_frame::Instant::from_secs(1), pool: &self.pool };
        assert!(self.forwarder.forward(&cx, self.ports[number], &mut self.batch, &mut self.egress));
    }

    #[inline(never)]
    fn output(&mut self) {
        let cx = Context { worker: 0, now: vmlan_frame::Instant::from_secs(1), pool: &self.pool };
        while let Some((id, batch)) = self.egress.next_touched() {
            let Some(link) = self.links.get(id.slot()) else {
                batch.clear();
                continue;
            };
            let _ = link.output(&cx, batch, black_box(&mut Medium(&mut self.sent[id.slot()])));
        }
    }

    /// Drops the frames, and so gives back their buffers.
    #[inline(never)]
    fn give_back(&mut self) {
        for sent in &mut self.sent {
            sent.clear();
        }
    }

    /// One batch all the way.
    fn round(&mut self) {
        for (_, hop) in HOPS {
            hop(self);
        }
    }

    /// Nanoseconds a frame of each hop.
    fn timed(&mut self) -> [f64; HOPS.len()] {
        let (batches, slices) = TIMED;
        let mut least = [Duration::MAX; HOPS.len()];
        for _ in 0..slices {
            let mut slice = [Duration::ZERO; HOPS.len()];
            for _ in 0..batches {
                let mut before = Instant::now();
                for ((_, hop), sum) in HOPS.into_iter().zip(&mut slice) {
                    hop(self);
                    let after = Instant::now();
                    *sum += after - before;
                    before = after;
                }
            }
            for (least, sum) in least.iter_mut().zip(slice) {
                *least = sum.min(*least);
            }
        }
        least.map(|sum| sum.as_nanos() as f64 / f64::from(batches) / Batch::LIMIT as f64)
    }
}

/// Instructions a frame of the hop, for the row's number; `None` without valgrind.
fn counted(hop: &str, row: usize) -> Option<f64> {
    let toggle = format!("--toggle-collect=*Way*{hop}*");
    let out = env::temp_dir().join(format!("vmlan-hops-{}", std::process::id()));
    let to = format!("--callgrind-out-file={}", out.display());
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", &toggle, &to]).arg(env::current_exe().ok()?);
    let succeeds = valgrind.args(["--row", &row.to_string()]).status().is_ok_and(|status| status.success());
    let text = std::fs::read_to_string(&out).ok().filter(|_| succeeds)?;
    let _ = std::fs::remove_file(&out);
    let sum: f64 = text.lines().find_map(|line| line.strip_prefix("totals: "))?.parse().ok()?;
    Some(sum / COUNTED as f64 / Batch::LIMIT as f64)
}

fn main() {
    let arguments = Vec::from_iter(env::args().skip(1));
    if let [option, row] = &arguments[..]
        && option == "--row"
    {
        let (_, receivers, beside_trunk) = ROWS[row.parse::<usize>().expect("a row's number")];
        let mut way = Way::new(receivers, beside_trunk);
        (0..COUNTED).for_each(|_| way.round());
        return;
    }
    println!("{:<18}{}", "ns, instructions", HOPS.map(|(name, _)| format!("{name:>16}")).concat());
    for (row, (name, receivers, beside_trunk)) in ROWS.into_iter().enumerate() {
        let mut way = Way::new(receivers, beside_trunk);
        let times = way.timed();
        assert_eq!(
            way.network.fdb(vmlan_frame::Instant::from_secs(1)).len(),
            1 + receivers,
            "every guest is known"
        );
        let figures = HOPS.into_iter().zip(times).map(|((hop, _), time)| {
            let count = counted(hop, row).map_or("-".into(), |count| format!("{count:.1}"));
            format!("{:>16}", format!("{time:.2} {count:>6}"))
        });
        println!("{name:<18}{}", figures.collect::<String>());
    }
}
