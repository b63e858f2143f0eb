//! A network of its own for what runs in it: no address, port or packet of it is seen outside.
//!
//! It has no name, only a descriptor: the kernel removes it with the last process and
//! descriptor that use it, also when the tests are killed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The largest packet of a device.
pub(crate) const MTU: usize = 1500;

/// The only device of a namespace, beside its loopback.
const DEVICE: &str = "wire";

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new one, whose loopback works.
    pub(crate) fn new() -> anyhow::Result<Namespace> {
        let outside = Namespace::of_this_thread()?;
        // SAFETY: the thread keeps its files; only new sockets are made elsewhere.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .context("no network namespace can be made (that takes root)")?;
        let namespace = Namespace::of_this_thread();
        outside.enter()?;
        let namespace = namespace?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    fn of_this_thread() -> io::Result<Namespace> {
        File::open("/proc/thread-self/ns/net").map(Namespace)
    }

    /// What this thread starts and connects from here on, it does in there.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.0.as_fd(), network)?)
    }

    /// Does this work in there. (A process that it starts stays there.)
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let outside = Namespace::of_this_thread()?;
        self.enter()?;
        let done = work();
        outside.enter()?;
        Ok(done)
    }

    /// Runs `ip` with these arguments in there.
    pub(crate) fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let output = self
            .run(|| Command::new("ip").args(arguments.split(' ')).output())?
            .context("`ip` cannot be run (Debian's package `iproute2`)")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {arguments}: {error}");
        Ok(())
    }

    /// A device in there, with these addresses (`ADDRESS/PREFIX`): what is sent from one of
    /// them to elsewhere is read from the device.
    pub(crate) fn device(&self, addresses: [String; 2]) -> anyhow::Result<Device> {
        let tun = self.run(open_tun)??;
        for address in addresses {
            // At once, without asking whether somebody else has it: nobody has.
            self.ip(&format!("address add {address} dev {DEVICE} nodad"))?;
        }
        self.ip(&format!("link set {DEVICE} up mtu {MTU}"))?;
        Ok(Device(tun))
    }
}

/// What a namespace's processes take for the cable; the other end is here, packet by packet.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    /// The next packet that goes out, if one does within this time.
    pub(crate) fn read(&self, packet: &mut [u8], time: Duration) -> io::Result<Option<usize>> {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let time = time.try_into().map_err(io::Error::other)?;
        match retry_on_intr(|| poll(&mut polled, Some(&time)))? {
            0 => Ok(None),
            _ => (&self.0).read(packet).map(Some),
        }
    }

    /// A packet comes in. Never waits.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(drop)
    }
}

/// A new TUN device in the thread's namespace, for whole IP packets without another header.
fn open_tun() -> anyhow::Result<File> {
    const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
    const IFF_TUN: u16 = 0x0001;
    const IFF_NO_PI: u16 = 0x1000;
    const NAME_BYTES: usize = 16;

    let path = "/dev/net/tun";
    let mut options = File::options();
    let tun = options.read(true).write(true).open(path).context(path)?;
    // `struct ifreq`: the name, the flags.
    let mut request = [0u8; 40];
    request[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    // SAFETY: the kernel reads and writes a `struct ifreq`, 40 bytes at most.
    unsafe { ioctl(&tun, Setter::<TUNSETIFF, [u8; 40]>::new(request)) }
        .context("no TUN device can be made")?;
    rustix::io::ioctl_fionbio(&tun, true)?;
    Ok(tun)
}
