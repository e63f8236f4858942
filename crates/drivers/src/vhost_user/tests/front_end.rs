//! The front end of the crate `vhost`, which Cloud Hypervisor and libkrun have, at a connection of ours. It waits for
//! an answer to each request.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant as Clock};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};
use vmlan_frame::MacAddr;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::connection::{ConfigOffer, Connection, Lingering, Offer, Options, Report, serve};
use super::*;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(60);

const MEMORY: u64 = 1 << 20;
const USER: u64 = 0x7f00_0000_0000;
const NUM: u16 = 8;
/// Octets of a ring and its buffer, and where its parts are.
const RING: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFER: u64 = 0x8000;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const ACCEPTED: u64 = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::MRG_RXBUF;

fn memfd(octets: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, octets).unwrap();
    fd
}

fn region(guest: u64, fd: &OwnedFd) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: guest,
        memory_size: MEMORY,
        userspace_addr: USER + guest,
        mmap_offset: 0,
        mmap_handle: fd.as_raw_fd(),
    }
}

fn log(fd: &OwnedFd, size: u64) -> Option<VhostUserDirtyLogRegion> {
    Some(VhostUserDirtyLogRegion { mmap_size: size, mmap_offset: 0, mmap_handle: fd.as_raw_fd() })
}

/// A machine with one pair of rings, and a worker.
struct Machine {
    front_end: Frontend,
    memory: OwnedFd,
    mapping: Mapping,
    calls: [EventFd; 2],
    queue: Box<dyn Queue>,
    pool: Pool,
    reports: Receiver<Report>,
    _connection: Connection,
}

impl Machine {
    fn new() -> Machine {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mac = Some(MacAddr(MAC));
        let config = ConfigOffer::Auto;
        let offer = Offer { pairs: 8, packed: true, offloads: true, config, mac, mtu: 1500 };
        let (socket, lingering) = (theirs.into(), Lingering::default());
        let counters = RingCounters::new(1);
        let options = Options {
            socket,
            offer,
            memory: 1 << 30,
            sealed: false,
            workers: 1,
            lingering,
            counters,
            checkpoints: None,
        };
        let (sender, reports) = channel();
        let (device, connection) = serve(options, move |report| drop(sender.send(report))).unwrap();
        let settings = Settings::of_test(0, Arc::new(Counters::new(1)), 64);
        connection.admit();
        let queue = device.queue(settings).unwrap();
        let memory = memfd(MEMORY);
        let mapping = Mapping::new(memory.as_fd(), 0, MEMORY).unwrap();
        let calls = [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        let pool = Pool::new(PoolSizes::default());
        let front_end = Frontend::from_stream(ours, 2);
        Machine { front_end, memory, mapping, calls, queue, pool, reports, _connection: connection }
    }

    /// Agrees on everything, as Cloud Hypervisor does.
    fn agree(&mut self) {
        let front_end = &mut self.front_end;
        front_end.set_owner().unwrap();
        let offered = front_end.get_features().unwrap();
        assert_eq!(offered & (ACCEPTED | feature::LOG_ALL), ACCEPTED | feature::LOG_ALL);
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
        assert!(front_end.get_protocol_features().unwrap().contains(wanted));
        front_end.set_protocol_features(wanted).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(front_end.get_queue_num().unwrap(), 18);
        assert_eq!(front_end.get_max_mem_slots().unwrap(), 509);
        let flags = VhostUserConfigFlags::WRITABLE;
        let (_, config) = front_end.get_config(0, 6, flags, &[0; 6]).unwrap();
        assert_eq!(config, MAC);
        assert!(front_end.set_config(0, flags, &MAC).is_err(), "nothing of it can be written");
        front_end.set_features(ACCEPTED).unwrap();
    }

    fn set_up(&mut self) {
        self.front_end.set_mem_table(&[region(0, &self.memory)]).unwrap();
        for (index, call) in self.calls.iter().enumerate() {
            let user = USER + RING * index as u64;
            let addresses = VringConfigData {
                queue_max_size: 256,
                queue_size: NUM,
                flags: 1,
                desc_table_addr: user,
                used_ring_addr: user + USED,
                avail_ring_addr: user + AVAILABLE,
                log_addr: Some(RING * index as u64 + USED),
            };
            self.front_end.set_vring_num(index, NUM).unwrap();
            self.front_end.set_vring_addr(index, &addresses).unwrap();
            self.front_end.set_vring_base(index, 0).unwrap();
            self.front_end.set_vring_call(index, call).unwrap();
            self.front_end.set_vring_kick(index, &EventFd::new(EFD_NONBLOCK).unwrap()).unwrap();
            self.front_end.set_vring_err(index, &EventFd::new(EFD_NONBLOCK).unwrap()).unwrap();
        }
        for index in 0..2 {
            self.front_end.set_vring_enable(index, true).unwrap();
        }
        self.wait_for(|state| state.up);
    }

    fn wait_for(&self, wanted: impl Fn(&super::super::connection::State) -> bool) {
        loop {
            match self.reports.recv_timeout(SOON).unwrap() {
                Report::State(state) if wanted(&state) => return,
                Report::State(_) => {}
                Report::Ended(fault) => panic!("it ended: {fault:?}"),
            }
        }
    }

    /// Makes the one buffer of a ring available, for the `count`-th time.
    fn offer(&self, index: u64, len: u32, flags: u16, count: u16) {
        let all = self.mapping.span(0, MEMORY).unwrap();
        let ring = (RING * index) as usize;
        all.store_u64(ring, RING * index + BUFFER);
        all.store_u32(ring + 8, len);
        all.store_u16(ring + 12, flags);
        all.store_u16(ring + AVAILABLE as usize + 4 + 2 * usize::from((count - 1) % NUM), 0);
        all.store_u16_release(ring + AVAILABLE as usize + 2, count);
    }

    /// Waits until the guest was told, and checks how much was used.
    fn wait_for_call(&self, index: usize, count: u16) {
        let deadline = Clock::now() + SOON;
        while self.calls[index].read().is_err() {
            assert!(Clock::now() < deadline, "no call of ring {index}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let used = RING * index as u64 + USED;
        assert_eq!(self.mapping.span(used, 4).unwrap().load_u16_acquire(2), count);
    }

    /// Moves a frame each way, for the `count`-th time.
    fn move_frames(&mut self, count: u16) {
        let (sent, mut read) = (frame(count as u8, 60), vec![0; 72]);
        // Calls of before are none of these.
        self.calls.iter().for_each(|call| drop(call.read()));
        self.mapping.span(RING + BUFFER, 72).unwrap().write(0, &[&[0; 12][..], &sent].concat());
        self.offer(1, 72, 0, count);
        self.offer(0, 1526, 2, count);
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        let mut batch = Batch::new();
        self.queue.receive(&cx, &mut batch).unwrap();
        assert_eq!(batch.iter().map(|frame| frame.octets().to_vec()).collect::<Vec<_>>(), [&sent[..]]);
        self.wait_for_call(1, count);
        self.queue.transmit(&cx, &mut batch).unwrap();
        self.wait_for_call(0, count);
        self.mapping.span(BUFFER, 72).unwrap().read(0, &mut read);
        assert_eq!(&read[12..], sent);
    }
}

#[test]
fn a_session_with_the_front_end_of_others() {
    let mut machine = Machine::new();
    machine.agree();
    machine.set_up();
    machine.move_frames(1);

    // Memory comes and goes while rings run.
    let more = memfd(MEMORY);
    machine.front_end.add_mem_region(&region(MEMORY, &more)).unwrap();
    machine.move_frames(2);
    machine.front_end.remove_mem_region(&region(MEMORY, &more)).unwrap();
    machine.move_frames(3);

    // The guest is about to move: the log is swapped, and has what is written from then on.
    let least = MEMORY / 32_768;
    let logs = [memfd(4096), memfd(4096)];
    assert!(machine.front_end.set_log_base(0, log(&logs[0], least - 1)).is_err(), "it is too short");
    machine.front_end.set_log_base(0, log(&logs[0], least)).unwrap();
    machine.front_end.set_features(ACCEPTED | feature::LOG_ALL).unwrap();
    machine.front_end.set_log_base(0, log(&logs[1], least)).unwrap();
    machine.move_frames(4);
    let marked = logs.each_ref().map(|log| {
        let log = Mapping::new(log.as_fd(), 0, 4096).unwrap();
        let is_marked = |page: &u64| log.span(page / 8, 1).unwrap().load_u8(0) >> (page % 8) & 1 != 0;
        (0..MEMORY / 4096).filter(is_marked).collect::<Vec<_>>()
    });
    let written = [USED, BUFFER, RING + USED].map(|address| address / 4096);
    assert_eq!(marked, [vec![], written.to_vec()]);

    // It stops where it is, as often as it is asked, and goes on elsewhere.
    for _ in 0..2 {
        assert_eq!([0, 1].map(|index| machine.front_end.get_vring_base(index).unwrap()), [4, 4]);
    }
    machine.front_end.set_features(ACCEPTED).unwrap();
    machine.set_up();
    machine.move_frames(5);
    machine.front_end.reset_device().unwrap();
    machine.wait_for(|state| !state.up);
}

#[test]
fn a_file_that_is_not_memory_ends_the_session() {
    let mut machine = Machine::new();
    machine.agree();
    // A memfd that is shorter than its region says.
    assert!(machine.front_end.set_mem_table(&[region(0, &memfd(4096))]).is_err());
    let ended = |report: &Report| matches!(report, Report::Ended(crate::queue::Fault::Violation(_)));
    while !ended(&machine.reports.recv_timeout(SOON).unwrap()) {}
}
