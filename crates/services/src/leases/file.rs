//! Leases as a file keeps them.

use serde::{Deserialize, Serialize};

use super::{Lease, Leases, MOST, State};

/// Octets of the longest file that is read.
pub const LONGEST_FILE: u64 = 16 << 20;

/// The form of the file that this version writes.
const VERSION: u32 = 1;

/// The file is no table of leases.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON, or lacks something.
    #[error("it is not as it was written")]
    Json(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("it has version {0}, and version {VERSION} is known")]
    Version(u32),
    /// It says what cannot be.
    #[error("{0}")]
    Content(&'static str),
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    leases: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    address: std::net::Ipv4Addr,
    mac: String,
    client: String,
    port: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    since: u64,
    until: u64,
    state: Kept,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    set: bool,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Bound,
    Ended,
    Aside,
}

impl Leases {
    /// The records as JSON. Offers are not among them, nor what was heard.
    pub fn to_json(&self) -> Vec<u8> {
        let records = self.iter().filter_map(|lease| {
            let state = match lease.state {
                State::Offered => return None,
                State::Bound => Kept::Bound,
                State::Ended => Kept::Ended,
                State::Aside => Kept::Aside,
            };
            Some(Record {
                address: lease.address,
                mac: lease.mac.to_string(),
                client: lease.client.iter().map(|octet| format!("{octet:02x}")).collect(),
                port: lease.port.clone(),
                name: lease.name.clone(),
                since: lease.since,
                until: lease.until,
                state,
                set: lease.set,
            })
        });
        let file = File { version: VERSION, leases: records.collect() };
        serde_json::to_vec_pretty(&file).expect("all keys are text")
    }

    /// Reads what [`Leases::to_json`] wrote.
    ///
    /// # Errors
    /// [`Unreadable`] for anything else.
    pub fn from_json(octets: &[u8]) -> Result<Leases, Unreadable> {
        let file: File = serde_json::from_slice(octets)?;
        if file.version != VERSION {
            return Err(Unreadable::Version(file.version));
        }
        if file.leases.len() > MOST {
            return Err(Unreadable::Content("it has more leases than there can be"));
        }
        let mut leases = Leases::default();
        for record in file.leases {
            let lease = record.lease().ok_or(Unreadable::Content("a lease's client or name cannot be"))?;
            leases.put(lease);
        }
        Ok(leases)
    }
}

impl Record {
    fn lease(self) -> Option<Lease> {
        /// Octets of the longest option, and of the longest name of a port that is believed.
        const LONGEST: usize = 255;
        let client = octets_of(&self.client).filter(|client| (1..=LONGEST).contains(&client.len()))?;
        let is_name = |name: &String| crate::name::label_of(name.as_bytes()).as_ref() == Some(name);
        let valid = self.port.len() <= LONGEST && self.name.as_ref().is_none_or(is_name);
        valid.then_some(Lease {
            address: self.address,
            mac: self.mac.parse().ok()?,
            client,
            port: self.port,
            name: self.name,
            since: self.since,
            until: self.until,
            state: match self.state {
                Kept::Bound => State::Bound,
                Kept::Ended => State::Ended,
                Kept::Aside => State::Aside,
            },
            set: self.set,
            held: 0,
        })
    }
}

fn octets_of(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits = hexadecimal.as_bytes();
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        &[high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Leases {
        let mut leases = Leases::default();
        for (number, state) in
            [(16, State::Bound), (17, State::Ended), (18, State::Aside), (19, State::Offered)]
        {
            leases.put(Lease {
                address: [10, 213, 5, number].into(),
                mac: vmlan_frame::MacAddr([2, 0, 0, 0, 0, number]),
                client: vec![1, 2, 0, 0, 0, 0, number],
                port: "web".into(),
                name: (number == 16).then(|| "laptop".into()),
                since: 10,
                until: 1000,
                state,
                set: number == 17,
                held: 0,
            });
        }
        leases
    }

    #[test]
    fn leases_are_read_as_they_were_written() {
        let leases = some();
        let read = Leases::from_json(&leases.to_json()).unwrap();

        assert!(read.iter().eq(leases.iter().filter(|lease| lease.state != State::Offered)));
        assert_eq!(read.named("laptop").unwrap().address, std::net::Ipv4Addr::new(10, 213, 5, 16));
        assert_eq!(read.count("web"), 3);
    }

    #[test]
    fn case_44_a_file_cut_anywhere_is_unreadable() {
        let json = some().to_json();
        for end in 0..json.len() {
            assert!(Leases::from_json(&json[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn contents_that_cannot_be() {
        let json = String::from_utf8(some().to_json()).unwrap();
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("01020000000010", ""),
            ("01020000000010", "0"),
            ("01020000000010", "zz"),
            ("laptop", "a.b"),
            ("02:00:00:00:00:10", "02:00"),
            ("10.213.5.16", "10.213.5"),
        ] {
            assert!(Leases::from_json(json.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
        }
    }
}
