//! `capture`: what passes the ports of the running daemon, to files, a pipe or the terminal.
//!
//! Theory of operation. The daemon captures and answers with a pcapng file while it is made; it writes no file itself.
//! This side takes the answer apart into blocks ([`blocks`]), which go to files ([`files`]), to standard output, or
//! become lines ([`listing`]). When this side is too slow, the daemon loses frames and says how many in the file's last
//! blocks. A signal asks the daemon to end the capture ([`signals`]), and then the rest still arrives. When a file
//! cannot be written the capture is ended too, and frames that still arrive are counted as lost.

mod blocks;
mod files;
mod filter;
mod listing;
mod signals;
mod summary;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use pcap_file::pcapng::Block;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;

use self::blocks::{Blocks, Piece};
use self::files::Files;
use self::listing::Listing;
use crate::args::CaptureArguments;
use crate::client::{Client, Pieces};
use crate::command::Failure;
use crate::output::{print, tell};
use crate::progress::Progress;

/// The header with the capture's number.
const NUMBER: &str = "vmlan-capture";

/// Where the capture goes.
enum Output {
    Files(Files),
    Pipe(Vec<u8>),
    Lines { listing: Listing, pending: String },
}

/// Counters of the frames that arrived and of those that were lost.
#[derive(Default)]
struct Counts {
    /// Frames that arrived here.
    arrived: u64,
    /// Frames that the daemon lost.
    lost: u64,
}

/// Captures until there are enough frames, a signal comes or the daemon ends.
///
/// # Errors
/// When it cannot be started, the output cannot be written, or the daemon breaks it off.
pub fn run(client: &Client, arguments: &CaptureArguments) -> Result<(), Failure> {
    let filter = arguments.filter.as_deref().map(filter::program).transpose()?;
    let is_pipe = arguments.write.as_deref() == Some(Path::new("-"));
    if is_pipe && arguments.rotate.is_some() {
        return Err(Failure::Usage("--rotate needs a file: -w FILE".into()));
    }
    if is_pipe && io::stdout().is_terminal() {
        let message =
            "-w - writes a pcapng file to standard output, which is a terminal; leave -w away for a listing";
        return Err(Failure::Usage(message.into()));
    }
    let lines = arguments.write.is_none();
    let request = vmlan_api::CaptureRequest {
        ports: arguments.ports.clone(),
        snaplen: arguments.snaplen.or(lines.then_some(listing::SNAPLEN)),
        count: arguments.count,
        drops: arguments.drops,
        both: arguments.both,
        filter,
    };
    let pieces = client.post_for_stream("/v1/capture", &request)?;
    let number = pieces.header(NUMBER).and_then(|number| number.parse().ok());
    let number = number.with_context(|| format!("the daemon's answer lacks the header {NUMBER}"))?;
    signals::end_on_signal(client.path().to_owned(), number).context("no signal can be waited for")?;
    let output = match &arguments.write {
        None => Output::Lines { listing: Listing::default(), pending: String::new() },
        Some(_) if is_pipe => Output::Pipe(Vec::new()),
        Some(path) => {
            let files = Files::create(path, arguments.rotate);
            Output::Files(files.with_context(|| format!("{} cannot be written", path.display()))?)
        }
    };
    tell(&format!("capturing{}; Ctrl-C ends it", output.place()));
    take(client, number, pieces, output)
}

/// Takes the capture to its end, and tells what became of it.
fn take(client: &Client, number: u64, mut pieces: Pieces<'_>, mut output: Output) -> Result<(), Failure> {
    let (mut blocks, mut counts) = (Blocks::default(), Counts::default());
    // A listing is its own progress, and what reads a pipe may write to the terminal itself.
    let progress = matches!(output, Output::Files(_)).then(|| Progress::start("capturing"));
    let mut failed = None;
    let broken = loop {
        match pieces.next() {
            Ok(Some(octets)) => blocks.push(&octets),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        let mut written = Ok(());
        while let Some(piece) = blocks.next().map_err(anyhow::Error::new)? {
            counts.add(&piece);
            if failed.is_none() && written.is_ok() {
                written = output.block(&piece);
            }
        }
        if let Some(progress) = &progress {
            progress.say(format!("{} frames", counts.arrived));
        }
        if failed.is_none()
            && let Err(failure) = written.and_then(|()| output.flush())
        {
            if matches!(failure, Failure::OutputClosed) {
                return Err(failure);
            }
            failed = Some(failure);
            signals::end(client, number)?;
        }
    };
    drop(progress);
    output.tell(&counts);
    match (failed, broken) {
        (Some(failure), _) => Err(failure),
        (None, Some(error)) => Err(error.into()),
        (None, None) if !blocks.is_whole() => {
            Err(Failure::Failed(anyhow::anyhow!("the daemon ended within a block; the last frame is lost")))
        }
        (None, None) => Ok(()),
    }
}

impl Counts {
    fn add(&mut self, piece: &Piece<'_>) {
        match &piece.block {
            Some(Block::EnhancedPacket(_)) => self.arrived += 1,
            Some(Block::InterfaceStatistics(statistics)) => {
                let lost = statistics.options.iter().filter_map(|option| match option {
                    InterfaceStatisticsOption::IsbIfDrop(count) => Some(count),
                    _ => None,
                });
                self.lost += lost.sum::<u64>();
            }
            _ => {}
        }
    }
}

impl Output {
    fn place(&self) -> String {
        match self {
            Output::Files(files) => format!(" to {}", files.path().display()),
            Output::Pipe(_) => " to standard output".to_owned(),
            Output::Lines { .. } => String::new(),
        }
    }

    fn block(&mut self, piece: &Piece<'_>) -> Result<(), Failure> {
        match self {
            Output::Files(files) => {
                let result = files.block(piece);
                cannot_write(result, files)
            }
            Output::Pipe(pending) => {
                pending.extend_from_slice(piece.octets);
                Ok(())
            }
            Output::Lines { listing, pending } => {
                pending.extend(piece.block.as_ref().and_then(|block| listing.line(block)));
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Output::Files(files) => {
                let result = files.flush();
                cannot_write(result, files)
            }
            Output::Pipe(pending) => {
                let mut stdout = io::stdout().lock();
                let result = stdout.write_all(pending).and_then(|()| stdout.flush());
                pending.clear();
                result.map_err(|error| match error.kind() {
                    io::ErrorKind::BrokenPipe => Failure::OutputClosed,
                    _ => anyhow::Error::new(error).context("standard output cannot be written").into(),
                })
            }
            Output::Lines { pending, .. } if pending.is_empty() => Ok(()),
            Output::Lines { pending, .. } => {
                let result = print(pending);
                pending.clear();
                result
            }
        }
    }

    /// `120 frames captured in 2 files, 3 lost`.
    fn tell(&self, counts: &Counts) {
        let (written, place) = match self {
            Output::Files(files) if files.count() > 1 => {
                (files.written(), format!(" in {} files", files.count()))
            }
            Output::Files(files) => (files.written(), String::new()),
            Output::Pipe(_) | Output::Lines { .. } => (counts.arrived, String::new()),
        };
        let lost = counts.lost + (counts.arrived - written);
        let because = if counts.lost > 0 { ": the capture was read or written too slowly" } else { "" };
        tell(&format!("{written} frames captured{place}, {lost} lost{because}"));
    }
}

fn cannot_write(result: io::Result<()>, files: &Files) -> Result<(), Failure> {
    let what = || format!("{} cannot be written on", files.path().display());
    result.with_context(what).map_err(Failure::from)
}
