//! Records on stdin and stdout: each with its length in front, 32 bits, most significant octet first.

use std::io::{self, IoSlice, Read, Write};
use std::thread;

use anyhow::Context;
use vmlan_drivers::tunnel::client::Client;
use vmlan_drivers::tunnel::record::HEADER;

use super::describe;
use crate::output::tell;

/// Octets of the longest record.
const LONGEST: usize = HEADER + u16::MAX as usize;

/// Moves records both ways until stdin ends.
pub fn relay(client: &Client) -> anyhow::Result<()> {
    tell(&describe(client)?);
    thread::scope(|scope| {
        scope.spawn(|| {
            let result = to_stdout(client, &mut io::stdout().lock());
            // The other direction waits for stdin, which may never end.
            let error =
                result.err().map_or_else(|| "the tunnel has ended".to_owned(), |error| format!("{error:#}"));
            tell(&format!("error: {error}"));
            std::process::exit(1);
        });
        let result = from_stdin(client, &mut io::stdin().lock());
        match result {
            Ok(()) => std::process::exit(0),
            Err(error) => Err(error),
        }
    })
}

fn to_stdout(client: &Client, output: &mut impl Write) -> anyhow::Result<()> {
    let mut record = vec![0; LONGEST];
    while let Some(len) = client.receive_record(&mut record).context("the tunnel cannot be read")? {
        let length = u32::try_from(len)?.to_be_bytes();
        let written = output
            .write_all(&length)
            .and_then(|()| output.write_all(&record[..len]))
            .and_then(|()| output.flush());
        written.context("stdout cannot be written")?;
    }
    Ok(())
}

fn from_stdin(client: &Client, input: &mut impl Read) -> anyhow::Result<()> {
    let mut record = vec![0; LONGEST];
    while let Some(len) = length(input).context("stdin cannot be read")? {
        let record = record.get_mut(..len).filter(|record| !record.is_empty());
        let record =
            record.with_context(|| format!("a record of {len} octets cannot be; use 1 to {LONGEST}"))?;
        input.read_exact(record).context("stdin ends in the middle of a record")?;
        client.send_record(&[IoSlice::new(record)]).context("the tunnel takes nothing more")?;
    }
    Ok(())
}

/// The length of the next record; `None` at the end.
fn length(input: &mut impl Read) -> io::Result<Option<usize>> {
    let mut octets = [0; 4];
    let mut read = 0;
    while read < octets.len() {
        match input.read(&mut octets[read..])? {
            0 if read == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    Ok(Some(u32::from_be_bytes(octets) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_end_between_records_only() {
        assert_eq!(length(&mut &[0, 0, 1, 2, 9][..]).unwrap(), Some(258));
        assert_eq!(length(&mut &[][..]).unwrap(), None);
        assert!(length(&mut &[0, 0, 1][..]).is_err());
    }
}
