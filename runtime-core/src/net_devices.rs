//! Moving network devices of the host into a container's network namespace, with their addresses, as runc does it. The
//! devices are not watched afterwards: they belong to the namespace. Physical ones come back when it ends, by the kernel.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tare_plan::NetDevice;

use crate::netlink::{Address, Link, Route};
use crate::{Error, Kind};

/// Devices that have moved. Dropped before [`Moved::keep`], it brings them back: a namespace that was only joined would
/// have kept them.
#[derive(Debug)]
pub(crate) struct Moved {
    outside: Route,
    inside: Route,
    devices: Vec<Gone>,
}

/// A device as it was on the host.
#[derive(Debug)]
struct Gone {
    name: String,
    inside: String,
    link: Link,
    addresses: Vec<Address>,
}

impl Moved {
    /// Moves `devices` into the network namespace of process `pid`, a child that waits; `inside` is a netlink socket
    /// that was made there.
    pub(crate) fn new(devices: &[NetDevice], inside: OwnedFd, pid: i32) -> Result<Self, Error> {
        let failed = |errno| Error::system("open a netlink socket", errno);
        let (outside, inside) = (Route::open().map_err(failed)?, Route::new(inside).map_err(failed)?);
        let mut moved = Self { outside, inside, devices: Vec::with_capacity(devices.len()) };
        devices.iter().try_for_each(|device| moved.one(device, pid))?;
        Ok(moved)
    }

    /// They stay where they are.
    pub(crate) fn keep(mut self) {
        self.devices.clear();
    }

    fn one(&mut self, device: &NetDevice, pid: i32) -> Result<(), Error> {
        let NetDevice { host, inside: name } = device;
        let failed = |what: String| move |errno| Error::system(what, errno);
        let link = self.outside.link(host);
        let link = link.map_err(failed(format!("link not found for interface {host} on runtime namespace")))?;
        match self.inside.link(name) {
            Err(Errno::NODEV) => {}
            Ok(_) => {
                let what = format!("network device {host}: the container's network namespace already has a {name}");
                return Err(Error::new(Kind::Invalid, what));
            }
            Err(errno) => return Err(Error::system(format!("look for {name} in the network namespace"), errno)),
        }
        // Before the move: the kernel takes them away when the device goes down.
        let addresses = self.outside.addresses(link.index);
        let addresses = addresses.map_err(failed(format!("fail to get ip addresses of {host}")))?;
        let what = format!("fail to move network device {host} to the container's network namespace");
        self.outside.move_link(link.index, pid, name).map_err(failed(what))?;
        let (name, inside) = (host.clone(), name.clone());
        self.devices.push(Gone { name, inside: inside.clone(), link, addresses: addresses.clone() });
        let index = self.inside.link(&inside).map_err(failed(format!("link not found for interface {inside}")))?.index;
        for address in addresses.iter().filter(|address| address.is_permanent_and_global()) {
            let added = self.inside.add_address(index, address);
            added.map_err(failed(format!("fail to set up an address of interface {inside}")))?;
        }
        self.inside.set_up(index).map_err(failed(format!("fail to set up interface {inside}")))
    }

    fn bring_back(&self, device: &Gone) -> Result<(), Errno> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        self.inside.move_link(self.inside.link(&device.inside)?.index, own, &device.name)?;
        let index = self.outside.link(&device.name)?.index;
        for address in device.addresses.iter().filter(|address| address.is_permanent_and_global()) {
            self.outside.add_address(index, address)?;
        }
        if device.link.up { self.outside.set_up(index) } else { Ok(()) }
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for device in self.devices.iter().rev() {
            // The error that brought us here is the one to report.
            let _ = self.bring_back(device);
        }
    }
}
