//! Options of an open tunnel: what a client gets and sets, with the errors of the control protocol.

use super::interface::{Interface, Statistics};
use super::message::{Refusal, Request, option};

/// The value of an option, or what came of changing it. `most` is the largest MTU that the network takes.
///
/// # Errors
/// `ENOPROTOOPT` for an option that there is not, `EMSGSIZE` for a value of the wrong size, `EPERM` for what takes a
/// privileged client, `EINVAL` for a value that cannot be, `EISCONN` for a second request to open.
pub fn serve(
    interface: &Interface,
    request: &Request<'_>,
    privileged: bool,
    most: u32,
) -> Result<Vec<u8>, Refusal> {
    match request {
        Request::Open { .. } => Err(Refusal::AlreadyOpen),
        Request::Get(option) => get(interface, *option),
        Request::Set(option, value) => set(interface, *option, value, privileged, most).map(|()| Vec::new()),
    }
}

fn get(interface: &Interface, option: u16) -> Result<Vec<u8>, Refusal> {
    let long = |value: u32| Ok(value.to_be_bytes().to_vec());
    match option {
        option::FLAGS => long(interface.flags()),
        option::IFNAME => Ok(interface.link().name().to_string().into_bytes()),
        option::STATISTICS => {
            Ok(interface.statistics().to_array().into_iter().flat_map(u64::to_be_bytes).collect())
        }
        option::OWN_COUNTS => long(interface.own_counts().into()),
        option::MAX_PENDING => long(interface.max_pending()),
        option::MTU => long(interface.link().mtu().get()),
        _ => Err(Refusal::NoSuchOption),
    }
}

fn set(interface: &Interface, option: u16, value: &[u8], privileged: bool, most: u32) -> Result<(), Refusal> {
    let result = match option {
        option::FLAGS if privileged => interface.set_flags(long(value)?),
        // The size is told first, as to everybody else.
        option::FLAGS => long(value).and(Err(Refusal::NotPermitted))?,
        option::IFNAME => return Err(Refusal::NotPermitted),
        option::STATISTICS => interface.add_counts(statistics(value)?),
        option::OWN_COUNTS => match long(value)? {
            on @ 0..=1 => {
                interface.set_own_counts(on == 1);
                Ok(())
            }
            _ => return Err(Refusal::Invalid),
        },
        option::MAX_PENDING => interface.set_max_pending(long(value)?),
        option::MTU => match long(value)? {
            mtu if mtu <= most => interface.set_mtu(mtu),
            _ => return Err(Refusal::Invalid),
        },
        _ => return Err(Refusal::NoSuchOption),
    };
    result.map_err(Refusal::of_link)
}

fn long(value: &[u8]) -> Result<u32, Refusal> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Refusal::WrongSize)
}

/// The counts of an option's value.
///
/// # Errors
/// `EMSGSIZE` unless it has 48 octets.
pub fn statistics(value: &[u8]) -> Result<Statistics, Refusal> {
    let (counts, rest) = value.as_chunks::<8>();
    let counts: &[[u8; 8]; 6] = counts.try_into().map_err(|_| Refusal::WrongSize)?;
    if rest.is_empty() {
        Ok(Statistics::from_array(counts.map(u64::from_be_bytes)))
    } else {
        Err(Refusal::WrongSize)
    }
}
