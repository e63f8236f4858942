use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame::{Batch, Instant, MacAddr, Pool, PoolSizes, VlanId, VlanTag};
use link::{BridgeGuard, Context, LinkOptions, Registry, Transmit};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;

/// A file that a test can look at after the capture ended.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn octets(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(octets)
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
        let registry = Registry::new(1, SystemTime::now);
        let link = registry.acquire(LinkOptions::ethernet("port").expect("a name")).expect("a link");
        link.attach(Arc::new(()), None).expect("attached once");
        let bridge = link.attach_bridge().expect("one network");
        let port = PortLink { network: "lab".into(), port: "web".into(), link };
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

fn started(output: impl Write + Send + 'static, options: Options, bench: &Bench) -> Capture {
    let mut capture = Capture::start(output, options).expect("a capture");
    capture.attach(&bench.port).expect("an attached link");
    capture
}

#[test]
fn frames_are_in_the_file_with_direction_time_tag_and_length() {
    let bench = Bench::new();
    let file = Memory::default();
    let capture = started(file.clone(), Options { snaplen: 64, ..Options::default() }, &bench);
    let now = sys::monotonic_nanos();
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
    let (bench, other) = (Bench::new(), Bench::new());
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
    let queue = Queue::new(Options { queue: 200, ..Options::default() });
    let interface = queue.add_interface("lab/web".into());
    let record = queue::Record { interface, inbound: true, time: 0, length: 90 };

    (0..5).for_each(|_| queue.push(record, [&[1; 90], &[], &[]]));

    let tally = queue::Tally { seen: 5, lost: 3 };
    assert_eq!((queue.tallies().interfaces, queue.tallies().lost), (vec![tally], 3));
    let mut chunk = Chunk::default();
    let taken = queue.take(&mut chunk);
    assert_eq!((taken.new_interfaces.len(), taken.is_last, chunk.records().len()), (1, false, 2));
    queue.push(record, [&[1; 90], &[], &[]]);
    assert_eq!(queue.tallies().lost, 3);
}
