//! Control requests (ioctl) and who answers them.

use core::any::Any;

use crate::hook::Entered;
use crate::{Error, Link, ProtocolFamily};

/// A request for a link's configuration or state.
pub struct Request<'a> {
    /// The number of the request; never 0.
    pub code: u32,
    /// The protocol that it is for.
    pub family: ProtocolFamily,
    /// Parameters and result, of a type that goes with the code.
    pub data: &'a mut (dyn Any + Send),
}

/// A good answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Done; the others see the request too.
    Done,
    /// Done; nobody else sees it.
    Consumed,
}

/// The answer of a hook. [`Error::OperationNotSupported`] and [`Error::NotSupported`] leave the request to others.
pub type ControlResult = Result<Answer, Error>;

impl Link {
    /// Asks the filters, then the protocol when a family is named, then the driver.
    ///
    /// The first who does not answer "not supported" decides: an error of his ends the walk; after a success the
    /// others still see the request, but their errors no longer count.
    ///
    /// # Errors
    /// `EINVAL` when the code is 0; `EOPNOTSUPP` when the link is not attached or nobody handles the request; else
    /// the deciding hook's error.
    pub fn control(&self, request: &mut Request<'_>) -> Result<(), Error> {
        if request.code == 0 {
            return Err(Error::InvalidArgument);
        }
        let _inside = self.io_ref().ok_or(Error::OperationNotSupported)?;
        let chain = self.chain();
        let mut verdict = Standing::default();
        for slot in &chain.filters {
            if slot.options.protocol.is_none_or(|family| family == request.family) {
                let entered = Entered::one(self, slot);
                if !entered.is_empty() && verdict.ends_with(slot.filter.control(self, request)) {
                    return verdict.result();
                }
            }
        }
        if let Some(usage) = chain.protocol(request.family).and_then(|slot| slot.enter(self))
            && verdict.ends_with(usage.slot.protocol.control(self, request))
        {
            return verdict.result();
        }
        verdict.ends_with(chain.driver.control(self, request));
        verdict.result()
    }
}

/// The answer that stands so far.
struct Standing(ControlResult);

impl Default for Standing {
    fn default() -> Self {
        Standing(Err(Error::OperationNotSupported))
    }
}

impl Standing {
    /// Takes another answer into account; whether nobody else is asked.
    fn ends_with(&mut self, answer: ControlResult) -> bool {
        let answer = match answer {
            Err(Error::NotSupported) => Err(Error::OperationNotSupported),
            other => other,
        };
        if self.0 == Err(Error::OperationNotSupported) || answer == Ok(Answer::Consumed) {
            self.0 = answer;
            return !matches!(answer, Ok(Answer::Done) | Err(Error::OperationNotSupported));
        }
        false
    }

    fn result(&self) -> Result<(), Error> {
        self.0.map(drop)
    }
}
