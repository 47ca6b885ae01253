//! Whose an I/O error is: the one place where that is decided.
//!
//! | [`Fault`] | what it means | what follows |
//! | --- | --- | --- |
//! | `Absent` | nothing is there under that name | a file may be gone, if whoever listed its folder does not see it either |
//! | `Itself` | what is there is not what it should be: cut short, no file, a loop of links | a sample is undecidable, a store is set aside and made anew |
//! | `Machine` | the machine, the disk or the network is in trouble | it is tried again, later and later, and an alarm says so; nothing is ever concluded from it |
//!
//! What is not known here is the machine's: a moment's trouble must never become a verdict, and an alarm too many costs a
//! line of a log.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// Whose an I/O error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is there under that name.
    Absent,
    /// What is there is not what it should be; reading it again changes nothing.
    Itself,
    /// The machine is in trouble, which may pass.
    Machine(Trouble),
}

/// What a machine is in trouble with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// No file descriptor is free, in the process or in the system.
    Descriptors,
    /// No memory is free.
    Memory,
    /// The disk or the quota is full.
    Space,
    /// The user may not: permissions can be set right, and a copy tool sets them last.
    Rights,
    /// The disk does not read or write.
    Device,
    /// The server of a network share does not answer, or knows the file no more.
    Share,
    /// Somebody else has it for the moment.
    Busy,
    /// Anything that is not known here.
    Other,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Descriptors,
        Self::Memory,
        Self::Space,
        Self::Rights,
        Self::Device,
        Self::Share,
        Self::Busy,
        Self::Other,
    ];

    /// A name for programs: the label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Space => "space",
            Self::Rights => "rights",
            Self::Device => "device",
            Self::Share => "share",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }

    /// What people can do about it, in one line.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Descriptors => "raise the limit of open files (LimitNOFILE=) or see who holds so many",
            Self::Memory => "free memory, or raise the limit of the service",
            Self::Space => "free space on the disk, or raise the quota",
            Self::Rights => "make it readable for the user that the program runs as",
            Self::Device => "look at the disk and at the kernel's log",
            Self::Share => "look at the network share, its server and the line to it",
            Self::Busy => "see who holds it",
            Self::Other => "look at the kernel's log",
        }
    }
}

/// Says whose an error is. An error that holds another one is judged by that.
pub fn judge(error: &io::Error) -> Fault {
    if let Some(errno) = error.raw_os_error() {
        return judge_errno(errno);
    }
    if let Some(inner) = error.get_ref().and_then(|inner| cause(inner)) {
        return judge(inner);
    }
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::Absent,
        ErrorKind::InvalidData
        | ErrorKind::InvalidInput
        | ErrorKind::UnexpectedEof
        | ErrorKind::IsADirectory
        | ErrorKind::FileTooLarge => Fault::Itself,
        ErrorKind::OutOfMemory => Fault::Machine(Trouble::Memory),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::WriteZero => {
            Fault::Machine(Trouble::Space)
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::Machine(Trouble::Rights),
        ErrorKind::StaleNetworkFileHandle
        | ErrorKind::TimedOut
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::NotConnected
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted => Fault::Machine(Trouble::Share),
        ErrorKind::WouldBlock | ErrorKind::ResourceBusy | ErrorKind::Interrupted => {
            Fault::Machine(Trouble::Busy)
        }
        _ => Fault::Machine(Trouble::Other),
    }
}

/// The I/O error that an error stems from, if there is one: the error itself, or the first one below it.
pub fn cause<'a>(error: &'a (dyn Error + Send + Sync + 'static)) -> Option<&'a io::Error> {
    below(error)
}

fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

fn judge_errno(errno: i32) -> Fault {
    let machine = Fault::Machine;
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT | Errno::NOTDIR => Fault::Absent,
        Errno::ISDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::FBIG | Errno::OVERFLOW | Errno::ILSEQ => {
            Fault::Itself
        }
        Errno::MFILE | Errno::NFILE => machine(Trouble::Descriptors),
        Errno::NOMEM | Errno::NOBUFS => machine(Trouble::Memory),
        Errno::NOSPC | Errno::DQUOT => machine(Trouble::Space),
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::KEYEXPIRED | Errno::NOKEY => {
            machine(Trouble::Rights)
        }
        Errno::IO
        | Errno::NODEV
        | Errno::NXIO
        | Errno::NOMEDIUM
        | Errno::MEDIUMTYPE
        | Errno::UCLEAN
        | Errno::BADMSG => machine(Trouble::Device),
        Errno::STALE
        | Errno::TIMEDOUT
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::NETRESET
        | Errno::CONNABORTED
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::NOTCONN
        | Errno::PIPE
        | Errno::SHUTDOWN
        | Errno::COMM
        | Errno::NOLINK
        | Errno::REMOTEIO
        | Errno::PROTO => machine(Trouble::Share),
        Errno::AGAIN | Errno::INTR | Errno::BUSY | Errno::TXTBSY | Errno::DEADLK | Errno::NOLCK => {
            machine(Trouble::Busy)
        }
        _ => machine(Trouble::Other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(errno: Errno) -> Fault {
        judge(&io::Error::from_raw_os_error(errno.raw_os_error()))
    }

    #[test]
    fn every_error_is_somebodys() {
        let table: &[(Fault, &[Errno])] = &[
            (Fault::Absent, &[Errno::NOENT, Errno::NOTDIR]),
            (Fault::Itself, &[Errno::ISDIR, Errno::LOOP, Errno::NAMETOOLONG, Errno::FBIG]),
            (Fault::Machine(Trouble::Descriptors), &[Errno::MFILE, Errno::NFILE]),
            (Fault::Machine(Trouble::Memory), &[Errno::NOMEM]),
            (Fault::Machine(Trouble::Space), &[Errno::NOSPC, Errno::DQUOT]),
            (Fault::Machine(Trouble::Rights), &[Errno::ACCESS, Errno::PERM, Errno::ROFS]),
            (Fault::Machine(Trouble::Device), &[Errno::IO, Errno::NODEV, Errno::NXIO, Errno::NOMEDIUM]),
            (
                Fault::Machine(Trouble::Share),
                &[Errno::STALE, Errno::TIMEDOUT, Errno::HOSTDOWN, Errno::HOSTUNREACH, Errno::NOTCONN],
            ),
            (Fault::Machine(Trouble::Busy), &[Errno::AGAIN, Errno::BUSY, Errno::INTR, Errno::TXTBSY]),
            (Fault::Machine(Trouble::Other), &[Errno::INVAL, Errno::XDEV, Errno::NOSYS]),
        ];
        for (fault, errnos) in table {
            for errno in *errnos {
                assert_eq!(of(*errno), *fault, "{errno:?}");
            }
        }
    }

    /// Nothing that is not known is ever final.
    #[test]
    fn an_unknown_error_is_the_machines() {
        let named = |fault: &Fault| !matches!(fault, Fault::Machine(Trouble::Other));
        let known = (1..=4095).filter(|errno| named(&judge_errno(*errno))).count();
        assert!((40..80).contains(&known), "{known}");
        let finals: BTreeSet<i32> = (1..=4095).filter(|errno| judge_errno(*errno) == Fault::Itself).collect();
        assert_eq!(finals.len(), 6, "{finals:?}");
    }

    #[test]
    fn kinds_without_a_number_are_judged_too_and_what_holds_an_error_by_that_one() {
        let table = [
            (ErrorKind::NotFound, Fault::Absent),
            (ErrorKind::UnexpectedEof, Fault::Itself),
            (ErrorKind::InvalidData, Fault::Itself),
            (ErrorKind::PermissionDenied, Fault::Machine(Trouble::Rights)),
            (ErrorKind::StorageFull, Fault::Machine(Trouble::Space)),
            (ErrorKind::TimedOut, Fault::Machine(Trouble::Share)),
            (ErrorKind::Other, Fault::Machine(Trouble::Other)),
        ];
        for (kind, fault) in table {
            assert_eq!(judge(&io::Error::from(kind)), fault, "{kind:?}");
            assert_eq!(judge(&io::Error::new(kind, "words")), fault, "{kind:?}");
        }
        let none_free = || io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let held = io::Error::other(io::Error::new(ErrorKind::InvalidData, none_free()));
        assert_eq!(judge(&held), Fault::Machine(Trouble::Descriptors));
    }

    #[test]
    fn the_error_that_another_stems_from_is_found() {
        #[derive(Debug, thiserror::Error)]
        #[error("above")]
        struct Above {
            #[source]
            below: io::Error,
        }
        let above = Above { below: ErrorKind::TimedOut.into() };
        assert_eq!(cause(&above).map(io::Error::kind), Some(ErrorKind::TimedOut));
        assert!(cause(&std::fmt::Error).is_none());
    }

    #[test]
    fn names_are_told_apart() {
        let names: BTreeSet<_> = Trouble::ALL.iter().map(|trouble| trouble.name()).collect();
        assert_eq!(names.len(), Trouble::ALL.len());
        assert!(Trouble::ALL.iter().all(|trouble| !trouble.advice().is_empty()));
    }
}
