//! The few words of rtnetlink(7) that moving a network device takes: find a link, list and add addresses, move, set up.
//! A request and its answers on one socket, synchronously; the network namespace is the one the socket was made in.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};
use serde::{Deserialize, Serialize};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_PID: u16 = 19;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFF_UP: u32 = 1;
/// The kernel fills at most this much at a time (`NLMSG_GOODSIZE` and dumps alike).
const BUFFER: usize = 32 * 1024;

/// A socket of the routing family.
#[derive(Debug)]
pub(crate) struct Route(OwnedFd);

/// A network device, as its namespace knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
}

/// An address of a device: what is needed to give it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    /// `IFA_ADDRESS`, `IFA_LOCAL` and `IFA_BROADCAST`, with their kinds.
    parts: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Given by somebody for good, and valid beyond the host: those survive a move (runtime-spec, "netDevices").
    pub(crate) fn is_permanent_and_global(&self) -> bool {
        self.flags & IFA_F_PERMANENT != 0 && self.scope == 0
    }
}

impl Route {
    /// A socket in this thread's network namespace.
    pub(crate) fn open() -> Result<Self, Errno> {
        // NETLINK_ROUTE is protocol 0, which is what `None` asks for.
        Self::new(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
    }

    /// A socket that was made elsewhere, and has not been used.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self, Errno> {
        // SECURITY: whoever rules a network namespace that is joined may send to any socket in it; one that is connected to
        // the kernel takes answers from nobody else.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The device of this name.
    pub(crate) fn link(&self, name: &str) -> Result<Link, Errno> {
        let message = Message::link(RTM_GETLINK, REQUEST | ACK, 0, [0; 2]).text(IFLA_IFNAME, name);
        let answers = self.ask(message)?;
        let body = answers.iter().find(|(kind, _)| *kind == RTM_NEWLINK).map(|(_, body)| body).ok_or(Errno::NODEV)?;
        Ok(Link { index: word(body, 4).ok_or(Errno::PROTO)?, up: word(body, 8).unwrap_or(0) & IFF_UP != 0 })
    }

    /// The addresses of a device.
    pub(crate) fn addresses(&self, index: u32) -> Result<Vec<Address>, Errno> {
        let answers = self.ask(Message::new(RTM_GETADDR, REQUEST | DUMP, &[0; 8]))?;
        let of_device = answers.iter().filter(|(kind, body)| *kind == RTM_NEWADDR && word(body, 4) == Some(index));
        Ok(of_device.filter_map(|(_, body)| address(body)).collect())
    }

    /// Moves a device into the network namespace of process `pid`, under this name, in one request.
    pub(crate) fn move_link(&self, index: u32, pid: i32, name: &str) -> Result<(), Errno> {
        let message = Message::link(RTM_NEWLINK, REQUEST | ACK, index, [0; 2]);
        let message = message.text(IFLA_IFNAME, name).attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes());
        self.ask(message).map(drop)
    }

    /// Gives a device an address.
    pub(crate) fn add_address(&self, index: u32, address: &Address) -> Result<(), Errno> {
        let [a, b, c, d] = index.to_ne_bytes();
        let body = [address.family, address.prefix, 0, address.scope, a, b, c, d];
        let message = Message::new(RTM_NEWADDR, REQUEST | ACK | CREATE | EXCLUSIVE, &body);
        let message = address.parts.iter().fold(message, |message, (kind, part)| message.attribute(*kind, part));
        let flags = address.flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
        self.ask(message.attribute(IFA_FLAGS, &flags.to_ne_bytes())).map(drop)
    }

    /// Brings a device up.
    pub(crate) fn set_up(&self, index: u32) -> Result<(), Errno> {
        self.ask(Message::link(RTM_NEWLINK, REQUEST | ACK, index, [IFF_UP, IFF_UP])).map(drop)
    }

    /// Sends a request and collects what comes back, up to its end: messages by kind, without their headers.
    fn ask(&self, message: Message) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        send(&self.0, &message.finish(), SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let (read, _) = rustix::io::retry_on_intr(|| recv(&self.0, &mut buffer[..], RecvFlags::empty()))?;
            let mut rest = buffer.get(..read).unwrap_or_default();
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    // An errno of 0 is the acknowledgement.
                    ERROR => return outcome(body).map(|()| answers),
                    DONE => return Ok(answers),
                    kind => answers.push((kind, body.to_vec())),
                }
                rest = after;
            }
            if !rest.is_empty() || read == 0 {
                return Err(Errno::PROTO);
            }
        }
    }
}

/// A request while it is written.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    /// About a link: a `struct ifinfomsg` with its flags and which of them change.
    fn link(kind: u16, flags: u16, index: u32, [set, change]: [u32; 2]) -> Self {
        let body: Vec<u8> = [0, index, set, change].iter().flat_map(|word| word.to_ne_bytes()).collect();
        Self::new(kind, flags, &body)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Names and addresses only: far below 64 KiB.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), b"\0"].concat())
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.0.iter_mut().zip(length).for_each(|(place, byte)| *place = byte);
        self.0
    }
}

/// The first message: its kind, its body, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(word(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((half(bytes, 4)?, body, after))
}

fn outcome(body: &[u8]) -> Result<(), Errno> {
    match word(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno.saturating_neg())),
        None => Err(Errno::PROTO),
    }
}

fn address(body: &[u8]) -> Option<Address> {
    let &[family, prefix, short, scope, ..] = body else { return None };
    let mut address = Address { family, prefix, scope, flags: short.into(), parts: Vec::new() };
    let mut rest = body.get(8..)?;
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        match kind {
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => address.parts.push((kind, value.to_vec())),
            IFA_FLAGS => address.flags = word(value, 0)?,
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(address)
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_whole_or_not_at_all() {
        let body = |tail: &[u8]| {
            let attribute =
                Message(vec![]).attribute(IFA_LOCAL, &[10, 0, 0, 1]).attribute(IFA_FLAGS, &0x280_u32.to_ne_bytes());
            [&[2, 24, 0x80, 0, 7, 0, 0, 0], &attribute.0[..], tail].concat()
        };
        let read = address(&body(&[])).unwrap();
        assert_eq!((read.prefix, read.flags, read.scope), (24, 0x280, 0));
        assert_eq!(read.parts, [(IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert!(read.is_permanent_and_global());
        for tail in [&[9, 0, 1, 0][..], &[2, 0, 1, 0], &[0, 0, 1, 0]] {
            assert_eq!(address(&body(tail)), None, "{tail:?}");
        }
    }

    #[test]
    fn a_message_that_claims_too_much_is_none() {
        for length in [0_u32, 15, 17, u32::MAX] {
            let bytes = [&length.to_ne_bytes()[..], &[0; 12]].concat();
            assert_eq!(split(&bytes), None, "{length}");
        }
        assert_eq!(split(&[]), None);
    }

    #[test]
    fn nobody_but_the_kernel_answers() {
        let (asking, other) = (Route::open().unwrap(), Route::open().unwrap());
        let own = SocketAddrNetlink::try_from(rustix::net::getsockname(&asking.0).unwrap()).unwrap();
        let to = SocketAddrNetlink::new(own.pid(), 0);
        let sent = rustix::net::sendto(&other.0, &[0; 16], SendFlags::empty(), &to);
        assert!(matches!(sent, Err(Errno::CONNREFUSED | Errno::PERM)), "{sent:?}");
    }

    #[test]
    fn the_loopback_device_is_there() {
        let route = Route::open().unwrap();
        assert_eq!(route.link("lo").unwrap().index, 1);
        assert_eq!(route.link("no-such-device"), Err(Errno::NODEV));
        assert!(route.addresses(1).is_ok());
    }
}
