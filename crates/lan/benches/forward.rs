//! The cost of forwarding: batches of 32 frames from the port that received them to the ports' queues, and the lookup
//! in FDBs with 10 to 1,000,000 addresses.
//!
//! All times are nanoseconds a frame. A frame that was forwarded is taken out of its queue, gets the destination of the
//! next round and goes back into the batch, as a buffer does in a worker; "taken out and put back" is what that costs
//! by itself and is part of every other time.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use vmlan_frame::{Batch, Context, Counters, Frame, MacAddr, Pool, PoolSizes};
use vmlan_lan::{
    Egress, FdbConfig, Forwarder, Limits, Network, NetworkConfig, PortConfig, PortId, TrunkConfig,
    TrunkPolicy,
};

const FRAMES: usize = 32;

/// Frames that a port's queue takes.
const ROOM: usize = 64;

const ADDRESSES: [u32; 4] = [10, 1_000, 100_000, 1_000_000];

const BROADCAST: MacAddr = MacAddr([0xff; 6]);

/// The address number `number` of all that are behind the ports.
fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// A network, a worker's part of it, and the frames that go around.
struct Setup {
    forwarder: Forwarder,
    egress: Egress,
    ports: Vec<PortId>,
    pool: Pool,
    frames: Vec<Frame>,
    batch: Batch,
}

impl Setup {
    /// A network with `ports` ports: the first sends, and `addresses` addresses are spread over the others.
    fn new(ports: usize, addresses: u32) -> Setup {
        Setup::with(ports, addresses, |_| {})
    }

    /// The same in a network that `change` changed before the first frame.
    fn with(ports: usize, addresses: u32, change: impl FnOnce(&Network)) -> Setup {
        // Room for twice as many, so that none is refused for want of a place. A million fill the largest table there
        // is: the few that found no place are flooded, to the one other port.
        let size = (2 * addresses as usize).clamp(1024, 1 << 20);
        let fdb = FdbConfig { size, ..FdbConfig::new([1, 2]) };
        let network =
            Network::new(NetworkConfig { name: "bench".into(), mtu: 1500, fdb, pass_reserved: false });
        let ports = Vec::from_iter((0..ports).map(|_| {
            let mut config = PortConfig::new("guest", Arc::new(Counters::new(1)));
            config.quota = 1 << 20;
            // What is measured are floods, not that they are dropped.
            config.limits = Limits::NONE;
            let id = network.add_port(config).expect("room for a port");
            network.set_active(id, true).expect("the port is there");
            id
        }));
        change(&network);
        let pool = Pool::new(PoolSizes { small: 2 * FRAMES, large: 0, bulk: 0 });
        let mut setup = Setup {
            forwarder: Forwarder::new(Arc::clone(&network)),
            egress: Egress::new(ROOM),
            ports,
            pool,
            frames: Vec::with_capacity(FRAMES),
            batch: Batch::new(),
        };
        for number in 0..addresses {
            let port = setup.ports[1 + number as usize % (setup.ports.len() - 1)];
            setup.batch.push(setup.frame(mac(number), mac(number)));
            setup.forward(port);
        }
        for _ in 0..FRAMES {
            let frame = setup.frame(BROADCAST, MacAddr([6, 0, 0, 0, 0, 1]));
            setup.frames.push(frame);
        }
        setup
    }

    fn frame(&self, destination: MacAddr, source: MacAddr) -> Frame {
        let mut octets = [0; 64];
        octets[..6].copy_from_slice(&destination.0);
        octets[6..12].copy_from_slice(&source.0);
        octets[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
        self.pool.copy(&octets).expect("a free buffer")
    }

    fn forward(&mut self, from: PortId) {
        let cx = Context { worker: 0, now: vmlan_frame::Instant::from_secs(1), pool: &self.pool };
        assert!(self.forwarder.forward(&cx, from, &mut self.batch, &mut self.egress));
    }

    /// `rounds` batches from the first port, frame by frame to the address that `next` gives.
    fn run(&mut self, rounds: u64, mut next: impl FnMut() -> MacAddr) -> Duration {
        let from = self.ports[0];
        let start = Instant::now();
        for _ in 0..rounds {
            self.refill(&mut next);
            self.forward(from);
            let frames = &mut self.frames;
            self.egress.drain(|_, batch| frames.extend(batch.drain()));
            // Of a frame that was flooded one handle goes around.
            self.frames.truncate(FRAMES);
        }
        let elapsed = start.elapsed();
        assert_eq!(self.frames.len(), FRAMES, "every frame went somewhere");
        elapsed
    }

    /// The same without forwarding.
    fn left_out(&mut self, rounds: u64, mut next: impl FnMut() -> MacAddr) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            self.refill(&mut next);
            self.frames.extend(black_box(&mut self.batch).drain());
        }
        start.elapsed()
    }

    fn refill(&mut self, next: &mut impl FnMut() -> MacAddr) {
        for mut frame in self.frames.drain(..) {
            let octets = frame.make_mut(&self.pool).expect("a free buffer");
            octets[..6].copy_from_slice(&next().0);
            self.batch.push(frame);
        }
    }

    /// `rounds` floods of the same frames, whose copies are thrown away.
    fn flood(&mut self, rounds: u64) -> Duration {
        let from = self.ports[0];
        let mut copies = 0;
        let start = Instant::now();
        for _ in 0..rounds {
            for frame in &self.frames {
                self.batch.push(frame.clone());
            }
            self.forward(from);
            self.egress.drain(|_, batch| {
                copies += batch.len() as u64;
                batch.clear();
            });
        }
        let elapsed = start.elapsed();
        assert_eq!(copies, rounds * (FRAMES * (self.ports.len() - 1)) as u64, "every port got every frame");
        elapsed
    }
}

fn add_trunk(network: &Network) {
    let config = TrunkConfig {
        name: "trunk".into(),
        policy: TrunkPolicy::default(),
        notify: Arc::new(|_| {}),
        account: Arc::new(Counters::new(1)).into(),
    };
    let id = network.add_trunk(config).expect("room for a port");
    network.set_active(id, true).expect("the port is there");
}

/// Addresses below `count` in an order that no prefetcher guesses.
fn scattered(count: u32) -> impl FnMut() -> MacAddr {
    let mut state = 1_u64;
    move || {
        // Knuth's linear congruential generator (MMIX); the upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        mac(((state >> 33) as u32) % count)
    }
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let mut two = Setup::new(2, 10);
    group.bench_function("taken out and put back", |bencher| {
        bencher.iter_custom(|rounds| two.left_out(rounds, || mac(1)) / FRAMES as u32);
    });
    group.bench_function("one destination", |bencher| {
        bencher.iter_custom(|rounds| two.run(rounds, || mac(1)) / FRAMES as u32);
    });
    let mut beside = Setup::with(2, 10, add_trunk);
    group.bench_function("one destination beside a trunk", |bencher| {
        bencher.iter_custom(|rounds| beside.run(rounds, || mac(1)) / FRAMES as u32);
    });
    let mut many = Setup::new(1 + FRAMES, FRAMES as u32);
    group.bench_function("32 destinations at 32 ports", |bencher| {
        let mut number = 0;
        bencher.iter_custom(|rounds| {
            let next = || {
                number = (number + 1) % FRAMES as u32;
                mac(number)
            };
            many.run(rounds, next) / FRAMES as u32
        });
    });
    let mut eight = Setup::new(1 + 8, 8);
    group.bench_function("flood to 8", |bencher| {
        bencher.iter_custom(|rounds| eight.flood(rounds) / FRAMES as u32);
    });
    group.finish();
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fdb");
    for count in ADDRESSES {
        let mut setup = Setup::new(2, count);
        group.bench_function(BenchmarkId::new("left out", count), |bencher| {
            let mut next = scattered(count);
            bencher.iter_custom(|rounds| setup.left_out(rounds, &mut next) / FRAMES as u32);
        });
        group.bench_function(BenchmarkId::new("scattered", count), |bencher| {
            let mut next = scattered(count);
            bencher.iter_custom(|rounds| setup.run(rounds, &mut next) / FRAMES as u32);
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    batches(&mut criterion);
    lookups(&mut criterion);
    criterion.final_summary();
}
