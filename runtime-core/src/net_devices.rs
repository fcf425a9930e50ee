//! Moving network devices of the host into a container's network namespace, with their addresses, as runc does it. The
//! devices are not watched afterwards: they belong to the namespace. Physical ones come back when it ends, by the kernel.
//!
//! A namespace that was only joined would keep them: what is on its way into one is on record ([`Lent`]), so that it comes
//! back though the maker has died.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use tare_plan::NetDevice;

use crate::netlink::{Address, Link, Route};
use crate::warnings::warn;
use crate::{Error, Kind};

const OWN: &str = "/proc/thread-self/ns/net";

/// Devices that can move, and have not.
#[derive(Debug)]
pub(crate) struct Journey {
    outside: Route,
    inside: Route,
    devices: Vec<Device>,
}

/// Devices that have moved. Dropped before [`Moved::keep`], it brings them back.
#[derive(Debug)]
pub(crate) struct Moved {
    outside: Route,
    inside: Route,
    devices: Vec<Device>,
}

/// A device as it is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    name: String,
    inside: String,
    link: Link,
    addresses: Vec<Address>,
}

/// Devices that may be in a network namespace which would keep them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    path: PathBuf,
    /// The namespace at that path when it was joined: the path may lead to another by now.
    namespace: Identity,
    /// Where they come from.
    home: Identity,
    devices: Vec<Device>,
}

/// Device and inode of a namespace's file.
type Identity = (u64, u64);

impl Journey {
    /// What is to move; `inside` is a netlink socket that was made in the container's network namespace. Nothing is
    /// changed.
    pub(crate) fn plan(devices: &[NetDevice], inside: OwnedFd) -> Result<Self, Error> {
        let failed = |errno| Error::system("open a netlink socket", errno);
        let (outside, inside) = (Route::open().map_err(failed)?, Route::new(inside).map_err(failed)?);
        let devices = devices.iter().map(|device| describe(device, &outside, &inside)).collect::<Result<_, _>>()?;
        Ok(Self { outside, inside, devices })
    }

    /// The same, for the record. `namespace` is the one that is joined, `path` where it was found.
    pub(crate) fn lent(&self, path: &Path, namespace: &OwnedFd) -> Result<Lent, Error> {
        let failed = |errno| Error::system("look at the network namespaces", errno);
        Ok(Lent {
            path: path.to_path_buf(),
            namespace: identity(&rustix::fs::fstat(namespace).map_err(failed)?),
            home: identity(&rustix::fs::stat(OWN).map_err(failed)?),
            devices: self.devices.clone(),
        })
    }

    /// Moves them into the network namespace of process `pid`, a child that waits.
    pub(crate) fn go(self, pid: i32) -> Result<Moved, Error> {
        let Self { outside, inside, devices } = self;
        let mut moved = Moved { outside, inside, devices: Vec::with_capacity(devices.len()) };
        devices.into_iter().try_for_each(|device| moved.one(device, pid))?;
        Ok(moved)
    }
}

fn identity(found: &Stat) -> Identity {
    (found.st_dev, found.st_ino)
}

fn describe(device: &NetDevice, outside: &Route, inside: &Route) -> Result<Device, Error> {
    let NetDevice { host, inside: name } = device;
    let failed = |what: String| move |errno| Error::system(what, errno);
    let link = outside.link(host);
    let link = link.map_err(failed(format!("link not found for interface {host} on runtime namespace")))?;
    match inside.link(name) {
        Err(Errno::NODEV) => {}
        Ok(_) => {
            let what = format!("network device {host}: the container's network namespace already has a {name}");
            return Err(Error::new(Kind::Invalid, what));
        }
        Err(errno) => return Err(Error::system(format!("look for {name} in the network namespace"), errno)),
    }
    // Before the move: the kernel takes them away when the device goes down.
    let addresses = outside.addresses(link.index);
    let mut addresses = addresses.map_err(failed(format!("fail to get ip addresses of {host}")))?;
    addresses.retain(Address::is_permanent_and_global);
    Ok(Device { name: host.clone(), inside: name.clone(), link, addresses })
}

impl Moved {
    /// They stay where they are.
    pub(crate) fn keep(mut self) {
        self.devices.clear();
    }

    fn one(&mut self, device: Device, pid: i32) -> Result<(), Error> {
        let failed = |what: String| move |errno| Error::system(what, errno);
        let what = format!("fail to move network device {} to the container's network namespace", device.name);
        self.outside.move_link(device.link.index, pid, &device.inside).map_err(failed(what))?;
        self.devices.push(device.clone());
        let name = &device.inside;
        let index = self.inside.link(name).map_err(failed(format!("link not found for interface {name}")))?.index;
        for address in &device.addresses {
            let added = self.inside.add_address(index, address);
            added.map_err(failed(format!("fail to set up an address of interface {name}")))?;
        }
        self.inside.set_up(index).map_err(failed(format!("fail to set up interface {name}")))
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for device in self.devices.iter().rev() {
            // The error that brought us here is the one to report.
            let _ = device.bring_back(&self.outside, &self.inside);
        }
    }
}

impl Device {
    fn bring_back(&self, outside: &Route, inside: &Route) -> Result<(), Errno> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        inside.move_link(inside.link(&self.inside)?.index, own, &self.name)?;
        let index = outside.link(&self.name)?.index;
        self.addresses.iter().try_for_each(|address| outside.add_address(index, address))?;
        if self.link.up { outside.set_up(index) } else { Ok(()) }
    }
}

impl Lent {
    /// Brings back what has moved. With the namespace gone there is nothing to bring: the kernel has disposed of it.
    ///
    /// # Errors
    /// A device that cannot be brought back, by its name.
    pub(crate) fn bring_back(&self) -> Result<(), Error> {
        let failed = |errno| Error::system("look into the network namespace that was joined", errno);
        let Some(namespace) = self.open().map_err(failed)? else { return Ok(()) };
        if rustix::fs::stat(OWN).map(|found| identity(&found)).map_err(failed)? != self.home {
            let names: Vec<_> = self.devices.iter().map(|device| device.name.as_str()).collect();
            warn(format_args!("network devices {} come from another network namespace, and stay", names.join(", ")));
            return Ok(());
        }
        let (outside, inside) = (Route::open().map_err(failed)?, route_in(namespace).map_err(failed)?);
        self.devices.iter().try_for_each(|device| match (outside.link(&device.name), inside.link(&device.inside)) {
            // It has not moved, or is no more.
            (Ok(_), _) | (_, Err(Errno::NODEV)) => Ok(()),
            _ => {
                let back = device.bring_back(&outside, &inside);
                back.map_err(|errno| Error::system(format!("bring back network device {}", device.name), errno))
            }
        })
    }

    fn open(&self) -> Result<Option<OwnedFd>, Errno> {
        // SECURITY: the path may lead to anything by now; a namespace's file is the only one that is opened.
        let place = match rustix::fs::open(&self.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            other => other?,
        };
        if identity(&rustix::fs::fstat(&place)?) != self.namespace {
            return Ok(None);
        }
        crate::rooted::reopen(&place, OFlags::RDONLY).map(Some)
    }
}

/// A socket in that namespace, made by a thread that goes there and ends.
fn route_in(namespace: OwnedFd) -> Result<Route, Errno> {
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Route::open()
    });
    thread.join().unwrap_or(Err(Errno::IO))
}
