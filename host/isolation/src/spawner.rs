//! A process of one thread that starts and ends others.

use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        signalfd::{SfdFlags, SignalFd},
        socket::{Shutdown, shutdown},
        wait::waitpid,
    },
    unistd::{self, Pid},
};

use super::{
    channel::Channel,
    child::{Child, tell_end, tell_failure},
    frame::{Body, Frame, Record, Violation},
    limits::Limits,
    sys,
};

/// An order to start a process.
const START: u16 = 1;
/// The number of the channel's descriptor in a process; others that were given follow.
const CHANNEL: RawFd = 3;
/// How likely the kernel ends the process first when there is no memory left; 1000 is the most.
const SACRIFICE: &str = "500";

/// What a process computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It compiles one plugin.
    Compiler,
}

impl Role {
    const ALL: [Role; 1] = [Role::Compiler];

    /// Returns the name by which the process is started and seen.
    #[must_use]
    pub fn name(self) -> &'static CStr {
        match self {
            Role::Compiler => c"flowgate-compiler",
        }
    }

    /// Returns the role of a process that was started by this name.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name().to_bytes() == name)
    }

    fn number(self) -> u16 {
        match self {
            Role::Compiler => 1,
        }
    }

    /// Takes the descriptors that a process of a role has been given: its channel, and so many others. From then on it is
    /// seen by the name of its role, and not by that of the file that it was executed from.
    ///
    /// # Errors
    /// They are missing, or the first one is no channel: nobody has given the process a role.
    pub fn descriptors(self, others: usize) -> io::Result<(Channel, Vec<OwnedFd>)> {
        let channel = Channel::from_descriptor(sys::inherited(CHANNEL)?)?;
        // For people only.
        let _ = prctl::set_name(self.name());
        let others =
            (0..others).map(|number| sys::inherited(CHANNEL + 1 + RawFd::try_from(number).unwrap_or(RawFd::MAX - 4)));
        Ok((channel, others.collect::<io::Result<_>>()?))
    }
}

/// What a process does in its role where the program itself cannot be executed once more. Returns its exit status.
pub type Entry = fn(Role) -> u8;

/// What is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it computes.
    pub role: Role,
    /// Its resource limits.
    pub limits: Limits,
    /// How much it gives way to others (`nice(2)`), from 0 to 19.
    pub nice: u8,
}

impl Order {
    fn write(&self) -> Result<Vec<u8>, Violation> {
        self.limits.write(Record::new(START, 0).u16(self.role.number()).u8(self.nice)).finish()
    }

    fn read(record: &[u8]) -> Result<Self, Violation> {
        let frame = Frame::read(record, 0)?;
        if frame.kind != START {
            return Err(Violation::Kind(frame.kind));
        }
        let mut body: Body<'_> = frame.body;
        let (number, nice) = (body.u16()?, body.u8()?);
        let role = Role::ALL.into_iter().find(|role| role.number() == number);
        let (role, limits) = (role.ok_or(Violation::Value(number.into()))?, Limits::read(&mut body)?);
        body.end()?;
        Ok(Order { role, limits, nice })
    }
}

/// The process that starts others, as its owner sees it. It ends with the owner.
#[derive(Debug)]
pub struct Spawner {
    orders: Channel,
    pid: Pid,
}

impl Spawner {
    /// Forks the spawner. It drops all capabilities and keeps no descriptor but the channel for orders.
    ///
    /// `entry` is what a process does where the program cannot be executed once more: without `/proc`.
    ///
    /// # Safety
    /// The calling process has one thread.
    ///
    /// # Errors
    /// The kernel gives no process or no sockets.
    #[allow(unsafe_code)]
    pub unsafe fn fork(entry: Entry) -> io::Result<Self> {
        let (orders, other) = Channel::pair()?;
        // Executed by descriptor, so that an update of the file on disk does not mix versions.
        let program = File::open("/proc/self/exe").ok();
        // SAFETY: the caller's: one thread.
        match unsafe { sys::fork() }? {
            Some(pid) => Ok(Spawner { orders, pid }),
            None => {
                drop(orders);
                let status = Loop::begin(other, program, entry).and_then(Loop::serve).is_err();
                sys::exit(status.into());
            }
        }
    }

    /// Ends the spawner and what it has started, and waits until they are gone. (An orphan would be left to the first process
    /// of the system, which in a container may be one that collects nobody.)
    pub fn end(&self) {
        // It may have ended already.
        let _ = shutdown(self.orders.as_fd().as_raw_fd(), Shutdown::Both);
        let _ = waitpid(self.pid, None);
    }

    /// Returns true if it has ended, whatever ended it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // It says nothing on this channel, so that there is nothing but its end to be read.
        sys::readable(self.orders.as_fd(), Duration::ZERO).unwrap_or(true)
    }

    /// Starts a process with these descriptors besides its end of the channel.
    ///
    /// # Errors
    /// The spawner has ended, or the kernel gives no sockets. What happens later is said by [`Child::wait`].
    pub fn start(&self, order: &Order, channel: Channel, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
        let record = order.write().map_err(|violation| io::Error::new(io::ErrorKind::InvalidInput, violation))?;
        let (lease, other) = Channel::pair()?;
        let all: Vec<BorrowedFd<'_>> =
            [other.as_fd(), channel.as_fd()].into_iter().chain(descriptors.iter().copied()).collect();
        self.orders.send(&record, &all)?;
        Ok(Child { lease })
    }
}

/// A process that has not been collected yet.
struct Running {
    pid: Pid,
    lease: Channel,
}

/// The spawner's own process.
struct Loop {
    orders: Channel,
    program: Option<File>,
    entry: Entry,
    ends: SignalFd,
    running: Vec<Running>,
    own: Pid,
}

impl Loop {
    /// Gives up what a spawner does not need.
    fn begin(orders: Channel, program: Option<File>, entry: Entry) -> io::Result<Self> {
        let _ = prctl::set_name(c"flowgate-spawner");
        // Signals of a terminal, and those that systemd sends to all processes of a unit, are for the owner: it may want
        // to finish what it has begun. The spawner ends when the owner does.
        unistd::setsid()?;
        for signal in
            [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGPIPE]
        {
            ignore(signal)?;
        }
        let mut ended = SigSet::empty();
        ended.add(Signal::SIGCHLD);
        ended.thread_set_mask()?;
        let ends = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let orders = {
            let received = orders;
            sys::aside(received.as_fd())?
        };
        let program = program.map(|program| sys::aside(program.as_fd())).transpose()?.map(File::from);
        sys::close_standard_streams()?;
        let _ = std::env::set_current_dir("/");
        sys::keep_files_private();
        prctl::set_dumpable(false)?;
        flowgate_privileges::sandbox::drop_capabilities().map_err(io::Error::other)?;
        let own = unistd::getpid();
        let orders = Channel::from_descriptor(orders)?;
        let this = Loop { orders, program, entry, ends, running: Vec::new(), own };
        this.close_others();
        Ok(this)
    }

    /// Closes what was inherited: pipes of others would not end while it is open here.
    fn close_others(&self) {
        let mut kept: Vec<RawFd> = [self.orders.as_fd().as_raw_fd(), self.ends.as_fd().as_raw_fd()].into();
        kept.extend(self.program.as_ref().map(|program| program.as_raw_fd()));
        sys::close_all_but(3, &kept);
    }

    /// Serves until the owner has ended.
    fn serve(mut self) -> io::Result<()> {
        let mut buffer = Channel::buffer();
        loop {
            let wanted = |descriptor: RawFd| libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
            let mut polled = vec![wanted(self.orders.as_fd().as_raw_fd()), wanted(self.ends.as_fd().as_raw_fd())];
            polled.extend(self.running.iter().map(|running| wanted(running.lease.as_fd().as_raw_fd())));
            sys::poll(&mut polled, -1)?;
            let ready: Vec<bool> = polled.iter().map(|descriptor| descriptor.revents != 0).collect();
            // An owner who lets go of a process does not want it any more.
            for (running, _) in self.running.iter().zip(ready.iter().skip(2)).filter(|(_, ready)| **ready) {
                end(running.pid);
            }
            // More than one may have ended for one signal.
            while let Ok(Some(_)) = self.ends.read_signal() {}
            self.collect();
            if ready.first().copied().unwrap_or_default() {
                let (length, descriptors) = sys::receive(&self.orders, &mut buffer)?;
                if length == 0 {
                    break;
                }
                let record = buffer.get(..length).unwrap_or_default();
                let order =
                    Order::read(record).map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))?;
                self.start(&order, descriptors);
            }
        }
        for running in &self.running {
            end(running.pid);
            let _ = waitpid(running.pid, None);
        }
        Ok(())
    }

    /// Collects those that have ended, and says so.
    fn collect(&mut self) {
        self.running.retain(|running| match sys::collect(running.pid) {
            Some(ending) => {
                tell_end(&running.lease, &ending);
                false
            }
            None => true,
        });
    }

    /// Starts a process; the first descriptor is its lease.
    fn start(&mut self, order: &Order, mut descriptors: Vec<OwnedFd>) {
        if descriptors.len() < 2 {
            return;
        }
        let Ok(lease) = Channel::from_descriptor(descriptors.remove(0)) else { return };
        // SAFETY: this process has one thread.
        #[allow(unsafe_code)]
        let forked = unsafe { sys::fork() };
        match forked {
            Err(error) => tell_failure(&lease, "cannot start a process", &error),
            Ok(Some(pid)) => self.running.push(Running { pid, lease }),
            Ok(None) => {
                // Only for what is to be said if it fails: executing the program closes it.
                let status = match sys::aside(lease.as_fd()).and_then(Channel::from_descriptor) {
                    Ok(lease) => match self.become_other(order, &descriptors) {
                        // Not a destructor of descriptors runs: the process has closed them by their numbers.
                        Ok(status) => sys::exit(status),
                        Err((step, error)) => {
                            tell_failure(&lease, step, &error);
                            127
                        }
                    },
                    Err(_) => 127,
                };
                sys::exit(status);
            }
        }
    }

    /// Turns the calling process, which has just been forked, into one of this role. Returns only if the program cannot be
    /// executed.
    fn become_other(&self, order: &Order, descriptors: &[OwnedFd]) -> Result<u8, (&'static str, io::Error)> {
        // Writing a number to a file of its own is no harm where it is refused.
        let _ = fs::write("/proc/self/oom_score_adj", SACRIFICE);
        flowgate_privileges::sandbox::give_way(order.nice);
        SigSet::empty().thread_set_mask().map_err(|errno| ("cannot reset signals", errno.into()))?;
        // The signal comes when the spawner's only thread ends. Not later than the check, it has.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| ("cannot follow the end of others", errno.into()))?;
        if unistd::getppid() != self.own {
            return Ok(127);
        }
        let program = self.program.as_ref().map(|program| sys::aside(program.as_fd())).transpose();
        let program = program.map_err(|error| ("cannot keep the program open", error))?;
        let next = sys::place(descriptors, CHANNEL).map_err(|error| ("cannot pass descriptors", error))?;
        order.limits.apply().map_err(|error| ("cannot limit resources", error))?;
        match program {
            // All others are closed by it.
            Some(program) => Err(("cannot execute the program", sys::execute(program.as_fd(), order.role.name()))),
            None => {
                sys::close_from(next);
                Ok((self.entry)(order.role))
            }
        }
    }
}

/// Ends a process that has not been collected, so that its number is its own.
fn end(pid: Pid) {
    // It may have ended already.
    let _ = kill(pid, Signal::SIGKILL);
}

/// Ignores a signal.
#[allow(unsafe_code)]
fn ignore(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler runs for an ignored signal.
    unsafe { sigaction(signal, &action) }.map(|_| ()).map_err(io::Error::from)
}
