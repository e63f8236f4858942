//! Frames that pass while front ends do what they do.

use vmlan_frame::{Batch, Context, Counters, Pool, PoolSizes};
use vmlan_sys::guest_memory::Mapping;

use super::super::super::tests::guest::{GUEST, GuestRing, SIZE};
use super::*;
use crate::queue::Settings;

/// Receives what comes in at a port until there is so much of it, as a worker does. Returns the numbers of the frames.
fn receive(device: &dyn Endpoint, count: usize) -> Vec<u32> {
    let counters = Arc::new(Counters::new(1));
    let mut queue = device
        .queue(Settings {
            worker: 0,
            receives: true,
            account: counters.into(),
            backlog: 64,
            share: None,
            longest: 1518,
        })
        .unwrap();
    let pool = Pool::new(PoolSizes::default());
    let mut numbers = Vec::new();
    let start = Instant::now();
    while numbers.len() < count && start.elapsed() < SOON {
        let now = vmlan_frame::Instant::from_nanos(start.elapsed().as_nanos() as u64);
        let mut batch = Batch::new();
        queue.receive(&Context { worker: 0, now, pool: &pool }, &mut batch).unwrap();
        numbers.extend(batch.iter().map(|frame| {
            u32::from_ne_bytes(frame.octets()[14..18].try_into().expect("a number is behind the header"))
        }));
        thread::yield_now();
    }
    numbers
}

/// Sends numbered frames from the guest, as its driver does.
fn send_frames(ring: &mut GuestRing, count: u32) {
    let mut out = 0;
    let start = Instant::now();
    for number in 0..count {
        while out == 200 {
            assert!(start.elapsed() < SOON, "no frame is taken any more");
            out -= ring.used().len();
            thread::yield_now();
        }
        let at = GuestRing::at(u64::from(number % 256) * 128);
        let mut frame = [0; 12 + 60];
        frame[24..26].copy_from_slice(&[0x88, 0xb5]);
        frame[26..30].copy_from_slice(&number.to_ne_bytes());
        ring.write(at, &frame);
        ring.offer(&[(at, 72, false)]);
        out += 1;
    }
}

#[test]
fn case_13_memory_grows_while_a_ring_runs_and_no_frame_is_lost() {
    const FRAMES: u32 = 20_000;
    for packed in [false, true] {
        let mut front_end = FrontEnd::new();
        let (memory, more) = (memfd(SIZE), memfd(SIZE));
        let mut ring = GuestRing::new(packed, 256);
        ring.mapping = Arc::new(Mapping::new(memory.as_fd(), 0, SIZE).unwrap());
        let setup = ring.setup(0);
        let features = ACCEPTED | if packed { feature::RING_PACKED } else { 0 };
        front_end.send(Kind::SetFeatures, &longs(&[features]), &[]);
        front_end.send(Kind::SetProtocolFeatures, &longs(&[protocol::REPLY_ACK]), &[]);
        front_end.send(Kind::AddMemReg, &longs(&[0, GUEST, SIZE, USER, 0]), &[&memory]);
        front_end.send(Kind::SetVringEnable, &words(&[1, 1]), &[]);
        front_end.send(Kind::SetVringNum, &words(&[1, setup.num]), &[]);
        front_end.send(Kind::SetVringBase, &words(&[1, setup.base]), &[]);
        let addresses = setup.addresses;
        let addresses = longs(&[addresses.descriptors, addresses.device, addresses.driver, 0]);
        front_end.send(Kind::SetVringAddr, &[words(&[1, 0]), addresses].concat(), &[]);
        // Polled.
        front_end.send(Kind::SetVringKick, &longs(&[1 | 1 << 8]), &[]);
        let device = front_end.device.clone();
        let received = thread::scope(|scope| {
            let worker = scope.spawn(|| receive(&*device, FRAMES as usize));
            let driver = scope.spawn(|| send_frames(&mut ring, FRAMES));
            let table = [[GUEST, SIZE, USER, 0], [GUEST + SIZE, SIZE, USER + SIZE, 0]];
            let mut replaced = 0;
            while !driver.is_finished() {
                let count = 1 + replaced % 2;
                let body = [words(&[count as u32, 0]), longs(&table[..count].concat())].concat();
                front_end.send(Kind::SetMemTable, &body, &[&memory, &more][..count]);
                // The answer comes once the memory is replaced.
                assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[1, 1])), 0);
                replaced += 1;
            }
            assert!(replaced > 1);
            worker.join().unwrap()
        });
        assert!(received.iter().copied().eq(0..FRAMES), "{} of {FRAMES}, packed {packed}", received.len());
    }
}
