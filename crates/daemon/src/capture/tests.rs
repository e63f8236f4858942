use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use vmlan_frame::{
    Batch, Context, DropReason, Instant, MacAddr, Mutex, Pool, PoolSizes, VlanId, VlanTag, Witness,
};
use vmlan_link::{BridgeGuard, LinkOptions, Registry, Transmit};

use super::*;

/// A file that a test can look at after the capture ended.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn octets(&self) -> Vec<u8> {
        self.0.lock().clone()
    }

    /// For each frame, if it came from the guest.
    fn inbound(&self) -> Vec<bool> {
        let direction = |option: &EnhancedPacketOption<'_>| match option {
            EnhancedPacketOption::Flags(flags) => Some(flags & 3 == 1),
            _ => None,
        };
        let blocks = self.blocks();
        let frames = blocks.iter().filter_map(|block| match block {
            Block::EnhancedPacket(packet) => packet.options.iter().find_map(direction),
            _ => None,
        });
        frames.collect()
    }

    fn blocks(&self) -> Vec<Block<'static>> {
        let mut reader = PcapNgReader::new(std::io::Cursor::new(self.octets())).expect("a section");
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block() {
            blocks.push(block.expect("a good block").into_owned());
        }
        blocks
    }
}

impl Write for Memory {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file on a disk that is full when it has the first block.
struct FullDisk;

impl Write for FullDisk {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where everything that is sent ends.
struct Sink;

impl Transmit for Sink {
    fn transmit(&mut self, batch: &mut Batch) {
        batch.clear();
    }
}

/// A link, and a worker that uses it.
struct Bench {
    pool: Pool,
    bridge: BridgeGuard,
    port: PortLink,
}

impl Bench {
    fn new() -> Bench {
        Bench::named("web")
    }

    fn named(name: &str) -> Bench {
        let registry = Registry::new(1, SystemTime::now);
        let link = registry.acquire(LinkOptions::ethernet("port").expect("a name")).expect("a link");
        link.attach(Arc::new(()), None).expect("attached once");
        let bridge = link.attach_bridge().expect("one network");
        let port = PortLink { network: "lab".into(), port: name.into(), link };
        Bench { pool: Pool::new(PoolSizes::default()), bridge, port }
    }

    fn context(&self, now: u64) -> Context<'_> {
        Context { worker: 0, now: Instant::from_nanos(now), pool: &self.pool }
    }

    fn frame(&self, len: usize, tag: Option<VlanTag>) -> Batch {
        let mut octets = vec![0xaa; len];
        octets[..6].copy_from_slice(&MacAddr::BROADCAST.0);
        let mut frame = self.pool.copy(&octets).expect("a buffer");
        frame.meta.tag = tag;
        let mut batch = Batch::new();
        batch.push(frame);
        batch
    }

    fn receive(&self, now: u64, len: usize, tag: Option<VlanTag>) {
        self.bridge.link().input(&self.context(now), &mut self.frame(len, tag));
    }

    fn send(&self, now: u64, len: usize) {
        let mut batch = self.frame(len, None);
        self.bridge.link().output(&self.context(now), &mut batch, &mut Sink).expect("an attached link");
    }
}

/// A capture of what passes the link of `bench`, both ways.
fn started(output: impl Write + Send + 'static, options: Options, bench: &Bench) -> Capture {
    let mut capture = Capture::start(output, options).expect("a capture");
    capture.attach_both(&bench.port).expect("an attached link");
    capture
}

#[test]
fn a_frame_is_there_once_where_it_came_in_unless_both_ways_are_asked_for() {
    for (both, named, expected) in
        [(false, false, vec![true]), (true, false, vec![true, false]), (false, true, vec![true, false])]
    {
        let bench = Bench::new();
        let file = Memory::default();
        let options = Options { both, ..Options::default() };
        let mut capture = Capture::start(file.clone(), options).expect("a capture");
        let attached = if named { capture.attach_both(&bench.port) } else { capture.attach(&bench.port) };
        attached.expect("an attached link");
        bench.receive(0, 60, None);
        bench.send(0, 60);
        assert_eq!(capture.stop().frames, expected.len() as u64);
        assert_eq!(file.inbound(), expected, "{both} {named}");
    }
}

#[test]
fn frames_are_in_the_file_with_direction_time_tag_and_length() {
    let bench = Bench::new();
    let file = Memory::default();
    let capture = started(file.clone(), Options { snaplen: 64, ..Options::default() }, &bench);
    let now = vmlan_sys::monotonic_nanos();
    let tag = VlanTag::new(VlanId::new(10).expect("a VLAN"));

    bench.receive(now, 60, Some(tag));
    bench.send(now + 7, 100);
    let report = capture.stop();
    bench.receive(now, 60, None);

    assert_eq!((report.frames, report.lost, report.error.is_none()), (2, 0, true));
    let blocks = file.blocks();
    let [
        Block::InterfaceDescription(interface),
        Block::EnhancedPacket(first),
        Block::EnhancedPacket(second),
        Block::InterfaceStatistics(statistics),
    ] = &blocks[..]
    else {
        panic!("{blocks:?}")
    };
    assert_eq!(interface.snaplen, 64);
    assert_eq!(
        interface.options,
        [InterfaceDescriptionOption::IfName("lab/web".into()), InterfaceDescriptionOption::IfTsResol(9)]
    );
    assert_eq!((first.original_len, first.data.len()), (64, 64));
    assert_eq!(
        first.data[..16],
        [[0xff; 6], [0xaa; 6]].concat().into_iter().chain(tag.octets()).collect::<Vec<_>>()
    );
    assert_eq!(first.options, [EnhancedPacketOption::Flags(1)]);
    assert_eq!((second.original_len, second.data.len()), (100, 64));
    assert_eq!(second.options, [EnhancedPacketOption::Flags(2)]);
    assert_eq!(second.timestamp - first.timestamp, Duration::from_nanos(7));
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    assert!(wall.abs_diff(first.timestamp) < Duration::from_secs(60), "{:?}", first.timestamp);
    // The upper word comes first.
    let octets = statistics.timestamp.to_ne_bytes();
    let (upper, lower) = octets.split_at(4);
    let word = |octets: &[u8]| u64::from(u32::from_ne_bytes(octets.try_into().expect("four octets")));
    let ended = Duration::from_nanos(word(upper) << 32 | word(lower));
    assert!(wall.abs_diff(ended) < Duration::from_secs(60), "{ended:?}");
    let counted = [InterfaceStatisticsOption::IsbIfRecv(2), InterfaceStatisticsOption::IsbIfDrop(0)];
    assert_eq!(statistics.options, counted);
}

#[test]
fn after_as_many_frames_as_were_wanted_the_file_is_whole() {
    let bench = Bench::new();
    let file = Memory::default();
    let capture = started(file.clone(), Options { frames: Some(3), ..Options::default() }, &bench);

    (0..10).for_each(|_| bench.receive(0, 60, None));
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (3, 0));
    assert!(matches!(file.blocks().last(), Some(Block::InterfaceStatistics(_))));
}

#[test]
fn a_link_that_joins_later_is_described_before_its_frames() {
    let (bench, other) = (Bench::new(), Bench::named("db"));
    let file = Memory::default();
    let mut capture = started(file.clone(), Options::default(), &bench);

    bench.receive(0, 60, None);
    capture.attach(&other.port).expect("an attached link");
    other.receive(0, 60, None);
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (2, 0));
    let blocks = file.blocks();
    let place = |wanted: fn(&Block<'_>) -> bool| blocks.iter().rposition(wanted).expect("such a block");
    let described = place(|block| matches!(block, Block::InterfaceDescription(_)));
    let captured = place(|block| matches!(block, Block::EnhancedPacket(packet) if packet.interface_id == 1));
    assert!(described < captured, "{blocks:?}");
}

#[test]
fn what_a_full_disk_does_not_take_is_lost_and_counted() {
    let bench = Bench::new();
    let capture = started(FullDisk, Options::default(), &bench);

    (0..1000).for_each(|_| bench.receive(0, 1500, None));
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (0, 1000));
    assert_eq!(report.error.map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    assert_eq!(bench.bridge.link().counters().snapshot().rx_frames, 1000);
}

#[test]
fn a_full_queue_loses_the_newest_and_counts() {
    let queue = Queue::new(&Options { queue: 200, ..Options::default() });
    let interface = queue.add_interface("lab/web".into());
    let record = queue::Record { interface, inbound: true, time: 0, length: 90, dropped: None };

    (0..5).for_each(|_| queue.push(record, [&[1; 90], &[]], 90));

    let tally = queue::Tally { seen: 5, lost: 3 };
    assert_eq!((queue.tallies().interfaces, queue.tallies().lost), (vec![tally], 3));
    let mut chunk = Chunk::default();
    let taken = queue.take(&mut chunk);
    assert_eq!((taken.new_interfaces.len(), taken.is_last, chunk.records().len()), (1, false, 2));
    queue.push(record, [&[1; 90], &[]], 90);
    assert_eq!(queue.tallies().lost, 3);
}

#[test]
fn a_port_that_comes_back_is_the_same_interface() {
    let (bench, again) = (Bench::new(), Bench::new());
    let file = Memory::default();
    let mut capture = started(file.clone(), Options::default(), &bench);

    capture.attach(&bench.port).expect("an attached link");
    bench.receive(0, 60, None);
    bench.port.link.detach().expect("an attached link");
    assert!(capture.attach(&bench.port).is_err());
    capture.attach(&again.port).expect("an attached link");
    again.receive(0, 60, None);
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (2, 0));
    let blocks = file.blocks();
    let interfaces = blocks.iter().filter(|block| matches!(block, Block::InterfaceDescription(_))).count();
    let packets: Vec<u32> = blocks
        .iter()
        .filter_map(|block| match block {
            Block::EnhancedPacket(packet) => Some(packet.interface_id),
            _ => None,
        })
        .collect();
    assert_eq!((interfaces, packets), (1, vec![0, 0]));
}

#[test]
fn a_filter_sees_the_tag_on_the_wire_and_says_how_much_to_keep() {
    // Keeps 20 octets of what has the TPID 0x8100 where the EtherType would be.
    let filter = "4\n40 0 0 12\n21 0 1 33024\n6 0 0 20\n6 0 0 0\n";
    let filter = filter.parse::<vmlan_bpf::Program>().expect("a program").check().expect("a good program");
    let bench = Bench::new();
    let file = Memory::default();
    let options = Options { filter: Some(Arc::new(filter)), frames: Some(2), ..Options::default() };
    let capture = started(file.clone(), options, &bench);
    let tag = VlanTag::new(VlanId::new(10).expect("a VLAN"));

    for tag in [None, Some(tag), None, Some(tag), Some(tag)] {
        bench.receive(0, 60, tag);
    }
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (2, 0));
    let blocks = file.blocks();
    let [_, Block::EnhancedPacket(first), Block::EnhancedPacket(_), Block::InterfaceStatistics(statistics)] =
        &blocks[..]
    else {
        panic!("{blocks:?}")
    };
    assert_eq!((first.data.len(), first.original_len, &first.data[12..16]), (20, 64, &tag.octets()[..]));
    let counted = [InterfaceStatisticsOption::IsbFilterAccept(2), InterfaceStatisticsOption::IsbIfDrop(0)];
    assert_eq!(statistics.options, counted);
}

/// Keeps 20 octets of what has the TPID 0x8100 where the EtherType would be, after as much work as a filter may be.
fn heavy_filter() -> Arc<vmlan_bpf::ValidProgram> {
    let work = "4 0 0 1\n".repeat(4091);
    let filter = format!("4095\n{work}40 0 0 12\n21 0 1 33024\n6 0 0 20\n6 0 0 0\n");
    let filter = filter.parse::<vmlan_bpf::Program>().expect("a program").check().expect("a good program");
    Arc::new(filter)
}

/// A file whose every write waits until it may go on.
struct Slow(std::sync::mpsc::Receiver<()>, Memory);

impl Write for Slow {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // An error: it may go on for ever.
        let _ = self.0.recv();
        self.1.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_heavy_filter_is_none_of_the_workers_work_and_captures_the_same() {
    let bench = Bench::new();
    let file = Memory::default();
    let options =
        Options { filter: Some(heavy_filter()), frames: Some(3), snaplen: 18, ..Options::default() };
    let capture = started(file.clone(), options, &bench);
    let tag = VlanTag::new(VlanId::new(10).expect("a VLAN"));

    for tag in [None, Some(tag), None, Some(tag), Some(tag), Some(tag), None] {
        bench.receive(0, 60, tag);
    }
    // It ends by itself.
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (3, 0));
    let blocks = file.blocks();
    let [_, packets @ .., Block::InterfaceStatistics(statistics)] = &blocks[..] else { panic!("{blocks:?}") };
    let packets: Vec<_> = packets
        .iter()
        .filter_map(|block| match block {
            Block::EnhancedPacket(packet) => {
                Some((packet.data.len(), packet.original_len, packet.data[12..16].to_vec()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(packets, vec![(18, 64, tag.octets().to_vec()); 3]);
    let counted = [InterfaceStatisticsOption::IsbFilterAccept(3), InterfaceStatisticsOption::IsbIfDrop(0)];
    assert_eq!(statistics.options, counted);
}

#[test]
fn what_a_heavy_filter_has_no_time_for_is_lost_and_counted() {
    let bench = Bench::new();
    let (go_on, wait) = std::sync::mpsc::channel();
    go_on.send(()).expect("a file");
    let options = Options { filter: Some(heavy_filter()), queue: 600, ..Options::default() };
    let capture = started(Slow(wait, Memory::default()), options, &bench);

    // None of them is wanted, which no worker finds out.
    (0..100).for_each(|_| bench.receive(0, 60, None));
    drop(go_on);
    let report = capture.stop();

    assert_eq!(report.frames, 0);
    assert!(report.lost >= 100 - 2 * 11, "{report:?}");
}

#[test]
fn what_an_abandoned_capture_has_is_neither_filtered_nor_written() {
    let bench = Bench::new();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let file = Memory::default();
    let options = Options { filter: Some(heavy_filter()), ..Options::default() };
    let capture = started(Slow(wait, file.clone()), options, &bench);
    let tag = VlanTag::new(VlanId::new(10).expect("a VLAN"));

    // The filter wants all of them, and has not come to any: the first block is not written yet.
    (0..100).for_each(|_| bench.receive(0, 60, Some(tag)));
    let abandoned = std::thread::spawn(move || capture.abandon());
    while bench.port.link.account().is_present() {
        std::thread::yield_now();
    }
    drop(go_on);
    let report = abandoned.join().expect("no panic");

    assert_eq!(report.frames, 0);
    assert!(!file.blocks().iter().any(|block| matches!(block, Block::EnhancedPacket(_))));
}

#[test]
fn a_capture_of_drops_has_what_was_dropped_and_why() {
    let bench = Bench::new();
    let file = Memory::default();
    let capture = started(file.clone(), Options { drops: true, ..Options::default() }, &bench);

    bench.receive(0, 60, None);
    for reason in [DropReason::SourceGuard, DropReason::TooLong] {
        bench.port.link.account().lose_all(&bench.context(0), &mut bench.frame(70, None), reason);
    }
    let report = capture.stop();

    assert_eq!((report.frames, report.lost), (2, 0));
    assert!(!bench.port.link.account().is_present());
    let blocks = file.blocks();
    let [_, Block::EnhancedPacket(received), Block::EnhancedPacket(sent), _] = &blocks[..] else {
        panic!("{blocks:?}")
    };
    for (packet, flags, comment) in [(received, 1, "dropped: source_guard"), (sent, 2, "dropped: too_long")] {
        let options = [EnhancedPacketOption::Flags(flags), EnhancedPacketOption::Comment(comment.into())];
        assert_eq!((packet.data.len(), &packet.options[..]), (70, &options[..]));
    }
}
