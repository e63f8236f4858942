use vmlan_frame::DropReason;

/// Why a call of the link layer failed, in the meanings that driver authors know from errno.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EINVAL.
    #[error("an argument is invalid here")]
    InvalidArgument,
    /// EEXIST.
    #[error("it exists or is attached already")]
    AlreadyExists,
    /// ENODEV.
    #[error("the driver cannot plumb protocols")]
    NoDevice,
    /// ENXIO.
    #[error("the link, or the protocol on it, is not attached")]
    NotAttached,
    /// EBUSY.
    #[error("it is in use, or still being detached")]
    Busy,
    /// ENOBUFS.
    #[error("no index, slot or buffer is free")]
    NoBuffers,
    /// EMSGSIZE.
    #[error("the frame is too long for the link, or its segmentation request cannot be met")]
    MessageSize,
    /// EOPNOTSUPP.
    #[error("nobody here handles the request")]
    OperationNotSupported,
    /// ENOTSUP.
    #[error("not supported")]
    NotSupported,
    /// ENOPROTOOPT.
    #[error("the medium does not carry this protocol, or does not know this option")]
    NoProtocolOption,
    /// EIO.
    #[error("the device failed")]
    Io,
    /// EHOSTUNREACH.
    #[error("no next hop leads there, or it does not answer")]
    HostUnreachable,
    /// EACCES.
    #[error("not allowed by the rules set for the link")]
    AccessDenied,
    /// EPERM.
    #[error("not permitted")]
    NotPermitted,
    /// EPERM: a filter dropped the frame, for this reason.
    #[error("a filter dropped the frame ({0})")]
    Dropped(DropReason),
}

impl Error {
    /// The name of the errno with the same meaning.
    pub const fn errno_name(self) -> &'static str {
        match self {
            Error::InvalidArgument => "EINVAL",
            Error::AlreadyExists => "EEXIST",
            Error::NoDevice => "ENODEV",
            Error::NotAttached => "ENXIO",
            Error::Busy => "EBUSY",
            Error::NoBuffers => "ENOBUFS",
            Error::MessageSize => "EMSGSIZE",
            Error::OperationNotSupported => "EOPNOTSUPP",
            Error::NotSupported => "ENOTSUP",
            Error::NoProtocolOption => "ENOPROTOOPT",
            Error::Io => "EIO",
            Error::HostUnreachable => "EHOSTUNREACH",
            Error::AccessDenied => "EACCES",
            Error::NotPermitted | Error::Dropped(_) => "EPERM",
        }
    }
}
