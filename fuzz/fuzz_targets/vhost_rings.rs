//! Whatever a guest writes into its rings and buffers, before and while they are walked: nothing panics, and the books
//! balance.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vmlan_drivers::vhost_user::counters::RingCounters;
use vmlan_drivers::vhost_user::device::{Device, RingAddresses, Setup};
use vmlan_drivers::vhost_user::log::Log;
use vmlan_drivers::vhost_user::memory::{Memory, Region};
use vmlan_drivers::vhost_user::message::RegionDescription;
use vmlan_drivers::vhost_user::session::feature;
use vmlan_drivers::{Endpoint, Settings};
use vmlan_frame::{Batch, Context, Counters, Instant, Pool, PoolSizes};
use vmlan_sys::guest_memory::Mapping;

/// Octets of the memory; small, so that what is random hits something.
const SIZE: u64 = 1 << 14;
const GUEST: u64 = 0x1000;
const ENTRIES: u32 = 16;
/// Offsets of the areas of both rings.
const AREAS: [[u64; 3]; 2] = [[0, 0x100, 0x180], [0x400, 0x500, 0x580]];

fuzz_target!(|octets: &[u8]| {
    let [kind, image, steps, rest @ ..] = octets else { return };
    let split = (usize::from(*image) * 8).min(rest.len());
    let (image, writes) = rest.split_at(split);
    let has = |bit: u8, feature: u64| if kind >> bit & 1 != 0 { feature } else { 0 };
    let features = has(0, feature::RING_PACKED)
        | has(1, feature::MRG_RXBUF)
        | has(2, feature::EVENT_IDX)
        | has(3, feature::VERSION_1)
        | has(4, feature::GUEST_CSUM | feature::GUEST_TSO4);
    let mapping = Arc::new(Mapping::plain(SIZE as usize));
    let all = mapping.span(0, SIZE).expect("it is that long");
    all.write(0, image);
    let description = RegionDescription { guest: GUEST, size: SIZE, user: 0, offset: 0 };
    let region = Region { description, mapping: mapping.clone() };
    let memory = Arc::new(Memory::new(vec![region]).expect("one region"));
    let log = has(5, 1) != 0;
    let log = log.then(|| Arc::new(Log::new(mapping.area(SIZE - 2, 2).expect("it is there"))));
    let device = Device::new(2, 1, RingCounters::new(1)).expect("a device");
    let rings = device.rings();
    rings.admit();
    for (index, [descriptors, driver, device]) in AREAS.into_iter().enumerate() {
        let setup = Setup {
            features,
            num: ENTRIES,
            base: 0x8000,
            checkpoint: None,
            addresses: RingAddresses { descriptors, driver, device, log: log.as_ref().map(|_| GUEST) },
            memory: memory.clone(),
            log: log.clone(),
            enabled: true,
            commands: false,
            kick: None,
            call: None,
            error: None,
        };
        drop(rings.start(index, setup));
    }
    let counters = Arc::new(Counters::new(1));
    let account = counters.clone().into();
    let settings = Settings { worker: 0, receives: true, account, backlog: 8, share: None, longest: 1518 };
    let mut queue = device.queue(settings).expect("a queue");
    let pool = Pool::new(PoolSizes { small: 80, large: 4, bulk: 1 });
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    let mut batch = Batch::new();
    let mut writes = writes.chunks_exact(4);
    for step in 0..steps % 32 {
        // What the guest changes between the steps.
        if let Some(&[low, high, value, len]) = writes.next() {
            let offset = usize::from(u16::from_le_bytes([low, high])) % (SIZE as usize - 16);
            all.write(offset, &[value; 16][..usize::from(len % 16)]);
        }
        match step % 3 {
            0 => {
                queue.receive(&cx, &mut batch).expect("no fault of the memory");
                let sums = counters.snapshot();
                assert!(batch.iter().all(|frame| frame.len() <= 65_557), "{sums:?}");
                batch.clear();
            }
            1 => {
                let lengths = [60, 1514, 4000];
                lengths
                    .map(|len| pool.copy(&vec![7; len]).expect("a buffer"))
                    .into_iter()
                    .for_each(|frame| batch.push(frame));
                queue.transmit(&cx, &mut batch).expect("no fault of the memory");
                assert!(batch.is_empty());
            }
            _ => drop(queue.rest()),
        }
    }
    let waiting = queue.status().waiting as u64;
    let sums = counters.snapshot();
    let lost = sums.dropped_on(vmlan_frame::Direction::Egress);
    let sent = u64::from(steps % 32 / 3 + u8::from(steps % 32 % 3 == 2)) * 3;
    assert_eq!(sums.tx_frames + lost + waiting, sent, "the books balance");
});
