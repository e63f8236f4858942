use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmlan_drivers::vhost_user::counters::RingCounters;
use vmlan_drivers::vhost_user::device::{Device, RingAddresses, Setup};
use vmlan_drivers::vhost_user::memory::{Memory, Region};
use vmlan_drivers::vhost_user::message::RegionDescription;
use vmlan_drivers::vhost_user::session::feature;
use vmlan_drivers::{Endpoint, Queue, Settings};
use vmlan_frame::{Batch, Context, Counters, Pool, PoolSizes};
use vmlan_sys::guest_memory::Mapping;

/// Entries of a ring.
const NUM: u64 = 256;
const SIZE: u64 = 8 << 20;
/// Octets between the areas of the two rings, and of the areas of one.
const RING: u64 = 1 << 16;
const AREA: u64 = 1 << 14;
/// Where buffers begin, and how many octets each has.
const BUFFERS: u64 = 1 << 20;
const BUFFER: u64 = 2048;

/// Batches that callgrind counts.
const COUNTED: u64 = 400;
/// Batches of a slice, and slices.
const TIMED: (u32, usize) = (200, 200);

type Part = fn(&mut Guest);

/// The parts that are measured, each a function of [`Guest`] that is not inlined.
const PARTS: [(&str, Part); 2] = [("receive", Guest::receive), ("transmit", Guest::transmit)];

/// A row of the table: its name, whether rings are packed, and octets of a frame.
const ROWS: [(&str, bool, u32); 4] = [
    ("split, 64", false, 64),
    ("split, 1514", false, 1514),
    ("packed, 64", true, 64),
    ("packed, 1514", true, 1514),
];

/// A guest that has all its buffers in both rings at all times.
struct Guest {
    packed: bool,
    mapping: Arc<Mapping>,
    queue: Box<dyn Queue>,
    pool: Pool,
    batch: Batch,
    /// Chains that were made available in each ring.
    available: [u64; 2],
}

impl Guest {
    fn new(packed: bool, octets: u32) -> Guest {
        let mapping = Arc::new(Mapping::plain(SIZE as usize));
        let description = RegionDescription { guest: 0, size: SIZE, user: 0, offset: 0 };
        let region = Region { description, mapping: mapping.clone() };
        let memory = Arc::new(Memory::new(vec![region]).expect("one region"));
        let device = Device::new(2, 1, RingCounters::new(1)).expect("a device");
        let rings = device.rings();
        rings.admit();
        let all = mapping.span(0, SIZE).expect("all of it");
        for index in 0..2u64 {
            let at = index * RING;
            for entry in 0..NUM {
                let descriptor = (at + 16 * entry) as usize;
                all.store_u64(descriptor, BUFFERS + (index * NUM + entry) * BUFFER);
                let (len, write) = if index == 0 { (BUFFER as u32, 2) } else { (12 + octets, 0) };
                all.store_u32(descriptor + 8, len);
                if packed {
                    all.store_u16(descriptor + 12, entry as u16);
                } else {
                    all.store_u16(descriptor + 12, write);
                    all.store_u16((at + AREA + 4 + 2 * entry) as usize, entry as u16);
                }
            }
            let setup = Setup {
                features: feature::VERSION_1
                    | feature::MRG_RXBUF
                    | if packed { feature::RING_PACKED } else { 0 },
                num: NUM as u32,
                base: 0x8000,
                checkpoint: None,
                addresses: RingAddresses {
                    descriptors: at,
                    driver: at + AREA,
                    device: at + 2 * AREA,
                    log: None,
                },
                memory: memory.clone(),
                log: None,
                enabled: true,
                commands: false,
                kick: None,
                call: None,
                error: None,
            };
            rings.start(index as usize, setup);
        }
        let account = Arc::new(Counters::new(1)).into();
        let settings =
            Settings { worker: 0, receives: true, account, backlog: 256, share: None, longest: 1518 };
        let queue = device.queue(settings).expect("a queue");
        let pool = Pool::new(PoolSizes::default());
        Guest { packed, mapping, queue, pool, batch: Batch::new(), available: [0; 2] }
    }

    /// Makes a batch of chains of both rings available.
    fn offer(&mut self) {
        let all = self.mapping.span(0, SIZE).expect("all of it");
        for (index, available) in self.available.iter_mut().enumerate() {
            let at = index as u64 * RING;
            let first = *available;
            *available += Batch::LIMIT as u64;
            if !self.packed {
                all.store_u16((at + AREA + 2) as usize, *available as u16);
                continue;
            }
            for entry in first..*available {
                let round = if (entry / NUM).is_multiple_of(2) { 1 << 7 } else { 1 << 15 };
                let write = if index == 0 { 2 } else { 0 };
                let at = (at + 16 * (entry % NUM)) as usize;
                all.store_u32(at + 8, if index == 0 { BUFFER as u32 } else { all.load_u32(at + 8) });
                all.store_u16(at + 14, round | write);
            }
        }
        if self.packed {
            // What was used has no length any more.
            let octets = self.octets();
            for entry in self.available[1] - Batch::LIMIT as u64..self.available[1] {
                all.store_u32((RING + 16 * (entry % NUM) + 8) as usize, octets);
            }
        }
    }

    /// Octets of a frame with its header.
    fn octets(&self) -> u32 {
        self.mapping.span(SIZE - 4, 4).expect("the end").load_u32(0)
    }

    #[inline(never)]
    fn receive(&mut self) {
        let now = vmlan_frame::Instant::from_secs(1);
        let cx = Context { worker: 0, now, pool: &self.pool };
        self.queue.receive(&cx, &mut self.batch).expect("no fault");
        assert_eq!(self.batch.len(), Batch::LIMIT);
    }

    #[inline(never)]
    fn transmit(&mut self) {
        let now = vmlan_frame::Instant::from_secs(1);
        let cx = Context { worker: 0, now, pool: &self.pool };
        self.queue.transmit(&cx, &mut self.batch).expect("no fault");
        assert_eq!(self.queue.status().waiting, 0);
    }

    fn round(&mut self) {
        self.offer();
        for (_, part) in PARTS {
            part(self);
        }
    }

    /// Nanoseconds a frame of each part.
    fn timed(&mut self) -> [f64; PARTS.len()] {
        let (batches, slices) = TIMED;
        let mut least = [Duration::MAX; PARTS.len()];
        for _ in 0..slices {
            let mut slice = [Duration::ZERO; PARTS.len()];
            for _ in 0..batches {
                self.offer();
                let mut before = Instant::now();
                for ((_, part), sum) in PARTS.into_iter().zip(&mut slice) {
                    part(self);
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

fn guest(row: usize) -> Guest {
    let (_, packed, octets) = ROWS[row];
    let guest = Guest::new(packed, octets);
    guest.mapping.span(SIZE - 4, 4).expect("the end").store_u32(0, 12 + octets);
    guest
}

/// Instructions a frame of the part, for the row's number; `None` without valgrind.
fn counted(part: &str, row: usize) -> Option<f64> {
    let toggle = format!("--toggle-collect=*Guest*{part}*");
    let out = env::temp_dir().join(format!("vmlan-vhost-{}", std::process::id()));
    let to = format!("--callgrind-out-file={}", out.display());
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", &toggle, &to]).arg(env::current_exe().ok()?);
    let succeeds = valgrind.args(["--row", &row.to_string()]).status().is_ok_and(|status| status.success());
    let text = std::fs::read_to_string(&out).ok().filter(|_| succeeds)?;
    let _ = std::fs::remove_file(&out);
    let sum: f64 = text.lines().find_map(|line| line.strip_prefix("totals: "))?.parse().ok()?;
    Some(sum / COUNTED as f64 / Batch::LIMIT as f64)
}

pub fn main() {
    let arguments = Vec::from_iter(env::args().skip(1));
    if let [option, row] = &arguments[..]
        && option == "--row"
    {
        let mut guest = guest(row.parse().expect("a row's number"));
        (0..COUNTED).for_each(|_| guest.round());
        return;
    }
    println!("{:<18}{}", "ns, instructions", PARTS.map(|(name, _)| format!("{name:>16}")).concat());
    for (row, (name, ..)) in ROWS.into_iter().enumerate() {
        let times = guest(row).timed();
        let figures = PARTS.into_iter().zip(times).map(|((part, _), time)| {
            let count = counted(part, row).map_or("-".into(), |count| format!("{count:.1}"));
            format!("{:>16}", format!("{time:.2} {count:>6}"))
        });
        println!("{name:<18}{}", figures.collect::<String>());
    }
}
