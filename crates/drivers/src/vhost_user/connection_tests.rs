use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use vmlan_frame::{Batch, Context, Counters, Pool, PoolSizes};
use vmlan_sys::guest_memory::Mapping;

use super::super::message::{HEADER, Kind};
use super::super::session::{feature, protocol};
use super::super::tests::guest::{GUEST, GuestRing, SIZE};
use super::*;
use crate::queue::Settings;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(20);

const MEMORY: u64 = 4 << 20;
const USER: u64 = 0x7f00_0000_0000;
const NUM: u32 = 256;

const ACCEPTED: u64 = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::MRG_RXBUF;

fn offer() -> Offer {
    Offer {
        pairs: 8,
        packed: true,
        offloads: true,
        config: ConfigOffer::Auto,
        mac: Some(MacAddr([2, 0, 0, 0, 0, 7])),
        mtu: 1500,
    }
}

fn memfd(octets: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, octets).unwrap();
    fd
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn message(number: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    [words(&[number, flags, body.len() as u32]), body.to_vec()].concat()
}

fn send_octets(socket: &UnixStream, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    // The other end may be closed already.
    let _ = sendmsg(socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL);
}

/// The other end of a connection.
struct FrontEnd {
    socket: UnixStream,
    reports: Receiver<Report>,
    lingering: Lingering,
    device: Arc<dyn Endpoint>,
    connection: Option<Connection>,
}

impl FrontEnd {
    fn new() -> FrontEnd {
        FrontEnd::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> FrontEnd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        FrontEnd::over(ours, theirs, change)
    }

    fn over(ours: UnixStream, theirs: UnixStream, change: impl FnOnce(&mut Options)) -> FrontEnd {
        ours.set_read_timeout(Some(SOON)).unwrap();
        let lingering = Lingering::default();
        let mut options = Options {
            socket: theirs.into(),
            offer: offer(),
            memory: 1 << 30,
            sealed: false,
            workers: 1,
            lingering: lingering.clone(),
        };
        change(&mut options);
        let (sender, reports) = channel();
        let report = move |report| drop(sender.send(report));
        let (device, connection) = serve(options, report).unwrap();
        FrontEnd { socket: ours, reports, lingering, device, connection: Some(connection) }
    }

    fn send_octets(&self, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
        send_octets(&self.socket, octets, descriptors);
    }

    fn send(&self, kind: Kind, body: &[u8], descriptors: &[&OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        self.send_octets(&message(kind as u32, 1, body), &descriptors);
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut header = [0; HEADER];
        self.socket.read_exact(&mut header).unwrap();
        let size = u32::from_ne_bytes(header[8..].try_into().unwrap());
        let mut body = vec![0; size as usize];
        self.socket.read_exact(&mut body).unwrap();
        body
    }

    /// Sends a request that is answered with a number.
    fn ask(&mut self, kind: Kind, body: &[u8], descriptors: &[&OwnedFd]) -> u64 {
        self.send(kind, body, descriptors);
        u64::from_ne_bytes(self.receive().try_into().unwrap())
    }

    /// Sends a request whose answer is waited for, as a front end may with all of them.
    fn ask_whether(&mut self, kind: Kind, body: &[u8]) -> u64 {
        self.send_octets(&message(kind as u32, 1 | 8, body), &[]);
        u64::from_ne_bytes(self.receive().try_into().unwrap())
    }

    fn base(&mut self, index: u32) -> Vec<u8> {
        self.send(Kind::GetVringBase, &words(&[index, 0]), &[]);
        self.receive()
    }

    /// Waits for a state.
    fn wait_for(&self, wanted: impl Fn(&State) -> bool) -> State {
        loop {
            match self.reports.recv_timeout(SOON).unwrap() {
                Report::State(state) if wanted(&state) => return state,
                Report::State(_) => {}
                Report::Ended(fault) => panic!("it ended: {fault:?}"),
            }
        }
    }

    /// Waits for the end, and returns what it was told to be.
    fn end(&self) -> Fault {
        loop {
            if let Report::Ended(fault) = self.reports.recv_timeout(SOON).unwrap() {
                return fault;
            }
        }
    }

    /// Waits for the end, which is the front end's fault.
    fn violation(&self) -> String {
        match self.end() {
            Fault::Violation(text) => text,
            other => panic!("no violation: {other:?}"),
        }
    }

    fn accept(&mut self) {
        self.send(Kind::SetFeatures, &longs(&[ACCEPTED]), &[]);
        self.send(Kind::SetProtocolFeatures, &longs(&[protocol::REPLY_ACK]), &[]);
    }

    fn share(&self, memory: &OwnedFd) {
        self.send(Kind::AddMemReg, &longs(&[0, 0, MEMORY, USER, 0]), &[memory]);
    }

    /// Sets a ring up and starts it. Its areas lie in a quarter of a MiB.
    fn start(&self, index: u32, kick: &OwnedFd) {
        let user = USER + u64::from(index) * (256 << 10);
        self.send(Kind::SetVringNum, &words(&[index, NUM]), &[]);
        self.send(Kind::SetVringBase, &words(&[index, 0]), &[]);
        let addresses = longs(&[user, user + 0x2_0000, user + 0x1_0000, 0]);
        self.send(Kind::SetVringAddr, &[words(&[index, 0]), addresses].concat(), &[]);
        self.send(Kind::SetVringKick, &longs(&[index.into()]), &[kick]);
    }

    /// Memory, and one pair of rings that are started and enabled.
    fn run(&mut self, memory: &OwnedFd) {
        self.accept();
        self.share(memory);
        for index in [0, 1] {
            self.send(Kind::SetVringEnable, &words(&[index, 1]), &[]);
            self.start(index, &event());
        }
        assert_eq!(self.wait_for(|state| state.up).reason, None);
    }

    fn wait_for_threads(&self, count: usize) {
        let deadline = Instant::now() + SOON;
        while self.lingering.count() != count {
            assert!(Instant::now() < deadline, "{} threads", self.lingering.count());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes the index of a used ring, and of the available one.
fn set_indices(memory: &OwnedFd, index: u64, value: u16) {
    let ring = index * (256 << 10);
    for area in [0x1_0000, 0x2_0000] {
        rustix::io::pwrite(memory, &value.to_le_bytes(), ring + area + 2).unwrap();
    }
}

#[test]
fn case_1_the_order_of_qemu_brings_the_port_up() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    let offered = front_end.ask(Kind::GetFeatures, &[], &[]);
    let protocol = front_end.ask(Kind::GetProtocolFeatures, &[], &[]);
    front_end.send(Kind::SetProtocolFeatures, &longs(&[protocol]), &[]);
    assert_eq!(front_end.ask(Kind::GetQueueNum, &[], &[]), 18);
    assert_eq!(front_end.ask(Kind::GetMaxMemSlots, &[], &[]), 509);
    front_end.send(Kind::SetOwner, &[], &[]);
    assert_eq!(front_end.ask(Kind::GetFeatures, &[], &[]), offered);
    let (calls, errors) = ([event(), event()], [event(), event()]);
    for index in [0, 1] {
        front_end.send(Kind::SetVringCall, &longs(&[index]), &[&calls[index as usize]]);
        front_end.send(Kind::SetVringErr, &longs(&[index]), &[&errors[index as usize]]);
    }
    for (index, enabled) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        front_end.send(Kind::SetVringEnable, &words(&[index, enabled]), &[]);
    }
    assert_eq!(front_end.ask_whether(Kind::NetSetMtu, &longs(&[1500])), 0);
    front_end.send(Kind::SetFeatures, &longs(&[ACCEPTED]), &[]);
    front_end.share(&memory);
    front_end.start(0, &event());
    assert!(!front_end.wait_for(|state| state.reason.as_ref().unwrap().contains("each direction")).up);
    front_end.start(1, &event());
    front_end.wait_for(|state| state.up);
    // A guest may have slept through our start.
    let mut count = [0; 8];
    for call in &calls {
        let deadline = Instant::now() + SOON;
        while rustix::io::read(call, &mut count).is_err() {
            assert!(Instant::now() < deadline, "no call came");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn case_10_a_stopped_ring_answers_where_it_stood_each_time() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    set_indices(&memory, 1, 77);
    front_end.run(&memory);
    assert_eq!(front_end.base(1), words(&[1, 77]));
    assert_eq!(front_end.base(1), words(&[1, 77]));
    assert!(!front_end.wait_for(|state| !state.up).announced);
}

#[test]
fn case_12_one_ring_is_reset_and_starts_again() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    front_end.base(0);
    front_end.wait_for(|state| !state.up);
    front_end.start(0, &event());
    front_end.wait_for(|state| state.up);
}

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

#[test]
fn case_14_a_ring_without_its_memory_is_broken_until_it_is_kicked_again() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    front_end.run(&memory);
    front_end.send(Kind::RemMemReg, &longs(&[0, 0, MEMORY, USER, 0]), &[]);
    let broken = front_end.wait_for(|state| !state.up).reason.unwrap();
    assert!(broken.contains("ring 0 is broken"), "{broken}");
    front_end.share(&memory);
    for index in [0, 1] {
        front_end.send(Kind::SetVringKick, &longs(&[index]), &[&event()]);
    }
    assert_eq!(front_end.wait_for(|state| state.up).reason, None);
}

#[test]
fn case_30_memory_that_is_cut_short_ends_the_connection() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    front_end.accept();
    front_end.share(&memory);
    front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1]));
    ftruncate(&memory, 0).unwrap();
    front_end.start(0, &event());
    let text = front_end.violation();
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn case_33_files_that_are_no_memory_are_refused() {
    let writable = memfd(MEMORY);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writable));
    let read_only = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let sealed = memfd(MEMORY);
    fcntl_add_seals(&sealed, SealFlags::WRITE).unwrap();
    let short = memfd(MEMORY - 4096);
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    for file in [read_only, sealed, short, pipe] {
        let front_end = FrontEnd::new();
        front_end.share(&file);
        let text = front_end.violation();
        assert!(text.contains("memfd"), "{text}");
    }
}

#[test]
fn memory_is_sealed_where_that_is_asked_for() {
    let front_end = FrontEnd::with(|options| options.sealed = true);
    front_end.share(&memfd(MEMORY));
    assert!(front_end.violation().contains("sealed"));
    let mut front_end = FrontEnd::with(|options| options.sealed = true);
    let memory = memfd(MEMORY);
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    front_end.run(&memory);
}

#[test]
fn memory_has_a_bound() {
    let front_end = FrontEnd::with(|options| options.memory = MEMORY - 1);
    front_end.share(&memfd(MEMORY));
    assert!(front_end.violation().contains("`memory`"));
}

#[test]
fn case_34_descriptors_that_are_no_eventfds_end_the_connection() {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    for (kind, descriptor) in [(Kind::SetVringCall, socket.into()), (Kind::SetVringKick, timer)] {
        let mut front_end = FrontEnd::new();
        front_end.accept();
        front_end.share(&memfd(MEMORY));
        front_end.send(Kind::SetVringNum, &words(&[0, NUM]), &[]);
        front_end.send(Kind::SetVringAddr, &[words(&[0, 0]), longs(&[USER; 4])].concat(), &[]);
        front_end.send(kind, &longs(&[0]), &[&descriptor]);
        assert!(front_end.violation().contains("eventfd"));
    }
}

#[test]
fn case_35_strays_are_closed_and_end_the_connection_the_second_time() {
    let mut front_end = FrontEnd::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let strays = vec![theirs.as_fd(); 253];
    front_end.send_octets(&message(1, 1, &[]), &strays);
    assert_eq!(front_end.receive().len(), 8);
    front_end.send_octets(&message(1, 1, &[]), &strays[..1]);
    assert!(front_end.violation().contains("not for the first time"));
    drop(theirs);
    // All of them are closed.
    ours.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    front_end.wait_for_threads(0);
}

#[test]
fn case_35_a_descriptor_that_is_slow_to_close_does_not_delay_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (unread, _) = listener.accept().unwrap();
    slow.set_nonblocking(true).unwrap();
    while (&slow).write(&[0; 65_536]).is_ok() {}
    slow.set_nonblocking(false).unwrap();
    sockopt::set_socket_linger(&slow, Some(Duration::from_secs(600))).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // SetStatus, which was not offered.
    send_octets(&ours, &message(39, 1, &[0; 8]), &[slow.as_fd()]);
    // The one in the message is the last one.
    drop(slow);
    let front_end = FrontEnd::over(ours, theirs, |_| {});
    front_end.violation();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(front_end.lingering.count(), 1);
    drop((unread, listener));
    front_end.wait_for_threads(0);
}

#[test]
fn case_36_a_message_may_come_slowly_but_not_too_slowly() {
    let octets = message(1, 1, &[]);
    for (pause, is_served) in [(20, true), (250, false)] {
        let mut front_end = FrontEnd::new();
        for octet in &octets {
            front_end.send_octets(&[*octet], &[]);
            thread::sleep(Duration::from_millis(pause));
        }
        if is_served {
            assert_eq!(front_end.receive().len(), 8);
        } else {
            assert!(front_end.violation().contains("half sent"));
        }
    }
}

#[test]
fn case_37_and_41_messages_that_cannot_be_end_the_connection() {
    for octets in [
        message(1, 2, &[]),
        message(1, 1 | 4, &[]),
        [words(&[2, 1, 5000]), vec![0; 5000]].concat(),
        message(18, 1, &words(&[255, 1])),
        message(39, 1, &longs(&[0])),
        message(13, 1, &longs(&[0])),
    ] {
        let mut front_end = FrontEnd::new();
        front_end.send_octets(&octets, &[]);
        front_end.violation();
        // What was not read may make it a reset.
        assert!(matches!(front_end.socket.read(&mut [0]), Ok(0) | Err(_)));
        front_end.wait_for_threads(0);
    }
}

#[test]
fn a_front_end_that_takes_no_answers_is_left() {
    let front_end = FrontEnd::new();
    let many: Vec<u8> = (0..8000).flat_map(|_| message(1, 1, &[])).collect();
    front_end.socket.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let deadline = Instant::now() + SOON;
    let fault = loop {
        assert!(Instant::now() < deadline, "it goes on");
        sent += (&front_end.socket).write(&many[sent % HEADER..]).unwrap_or(0);
        match front_end.reports.recv_timeout(Duration::from_millis(10)) {
            Ok(Report::Ended(fault)) => break fault,
            Ok(Report::State(_)) | Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(fault.to_string().contains("took no answer"), "{fault:?}");
}

#[test]
fn case_40_a_log_that_is_short_is_refused_and_others_are_swapped() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    front_end.send(Kind::SetFeatures, &longs(&[ACCEPTED | feature::LOG_ALL]), &[]);
    // No whole pages.
    let least = MEMORY / 32_768;
    let log = memfd(least);
    front_end.send(Kind::SetLogBase, &longs(&[least - 1, 0]), &[&log]);
    assert_eq!(front_end.receive(), [0; 16]);
    front_end.wait_for(|state| state.reason.as_ref().is_some_and(|reason| reason.contains("log")));
    for _ in 0..3 {
        front_end.send(Kind::SetLogBase, &longs(&[least, 0]), &[&log]);
        assert_eq!(front_end.receive(), longs(&[least, 0]));
    }
    front_end.send(Kind::SetFeatures, &longs(&[ACCEPTED]), &[]);
    front_end.base(0);
}

#[test]
fn case_42_a_guest_is_announced_while_rings_are_stopped() {
    let front_end = FrontEnd::new();
    front_end.send(Kind::SendRarp, &[2, 0, 0, 0, 0, 9, 0, 0], &[]);
    assert!(!front_end.wait_for(|state| state.announced).up);
}

#[test]
fn case_43_an_mtu_above_that_of_the_network_is_refused_and_told() {
    let mut front_end = FrontEnd::new();
    front_end.accept();
    assert_eq!(front_end.ask_whether(Kind::NetSetMtu, &longs(&[1501])), 1);
    front_end.wait_for(|state| state.reason.as_ref().is_some_and(|reason| reason.contains("1501")));
}

#[test]
fn a_reset_stops_every_ring() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    assert_eq!(front_end.ask_whether(Kind::ResetDevice, &[]), 0);
    assert!(front_end.wait_for(|state| !state.up).reason.unwrap().contains("features"));
}

#[test]
fn memory_is_replaced_while_rings_run() {
    let mut front_end = FrontEnd::new();
    let (memory, more) = (memfd(MEMORY), memfd(MEMORY));
    front_end.run(&memory);
    let table = [words(&[2, 0]), longs(&[0, MEMORY, USER, 0, MEMORY, MEMORY, 0, 0])].concat();
    front_end.send(Kind::SetMemTable, &table, &[&memory, &more]);
    front_end.send(Kind::RemMemReg, &longs(&[0, MEMORY, MEMORY, 0, 0]), &[&more]);
    assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1])), 0);
    assert!(front_end.reports.try_recv().is_err());
}

#[test]
fn a_front_end_that_leaves_is_told_apart() {
    let front_end = FrontEnd::new();
    let FrontEnd { socket, reports, lingering, device: _device, connection } = front_end;
    drop(socket);
    let ended = reports.iter().find_map(|report| match report {
        Report::Ended(fault) => Some(fault),
        Report::State(_) => None,
    });
    assert!(matches!(ended, Some(Fault::Closed)));
    drop((lingering, connection));
}

#[test]
fn a_connection_that_is_dropped_ends_without_a_report() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    drop(front_end.connection.take());
    assert_eq!(front_end.socket.read(&mut [0]).unwrap(), 0);
    front_end.wait_for_threads(0);
    assert!(front_end.reports.iter().all(|report| matches!(report, Report::State(_))));
}

#[test]
fn threads_that_linger_keep_others_from_being_started() {
    let lingering = Lingering::default();
    let presents: Vec<_> = (0..Lingering::MOST).map(|_| lingering.enter().unwrap()).collect();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let options = Options {
        socket: ours.into(),
        offer: offer(),
        memory: 1 << 30,
        sealed: false,
        workers: 1,
        lingering: lingering.clone(),
    };
    assert_eq!(serve(options, |_| {}).err().map(|error| error.kind()), Some(io::ErrorKind::Other));
    theirs.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    drop(presents);
    assert_eq!(lingering.count(), 0);
}

#[test]
fn case_26_changes_of_started_rings_have_a_rate() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    let start = Instant::now();
    for toggle in 0..DISTURBANCES.1 + 50 {
        front_end.send(Kind::SetVringEnable, &words(&[0, toggle & 1]), &[]);
    }
    front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1]));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(150), "{took:?}");
}

#[test]
fn case_26_starts_of_started_rings_have_the_same_rate() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    let (start, kick) = (Instant::now(), event());
    for _ in 0..DISTURBANCES.1 + 50 {
        front_end.send(Kind::SetVringKick, &longs(&[0]), &[&kick]);
    }
    front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1]));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(150), "{took:?}");
}
