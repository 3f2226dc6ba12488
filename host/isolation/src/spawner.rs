//! A single-threaded process that starts and ends other processes.

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
        resource::{Resource, getrlimit, setrlimit},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        signalfd::{SfdFlags, SignalFd},
        socket::{Shutdown, shutdown},
        wait::waitpid,
    },
    unistd::{self, Pid},
};

use flowgate_privileges::{sandbox, users};

use super::{
    cgroup::{Controllers, GroupLimits, Groups},
    channel::Channel,
    child::{Child, Request, next_request, report_end, report_failure, report_refusal, report_start},
    frame::{Body, Frame, Record, Violation},
    limits::Limits,
    sys,
    users::{UserRange, Users},
};

/// Frame kind of an order to start a process.
const START: u16 = 1;
/// Descriptor number of the channel in a started process; the other descriptors passed to it follow.
const CHANNEL: RawFd = 3;
/// OOM score adjustment of a started process, from 0 to 1000: the higher, the more likely the kernel kills it first
/// when memory runs out.
const SACRIFICE: &str = "500";
/// Processes and threads of the user of a started process, if that has no other process (RLIMIT_NPROC). A worker has
/// two, and a process that tries what a filter may kill it for one more.
const PROCESSES: u64 = 8;

/// The task of a started process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Compiles one plugin.
    Compiler,
    /// Runs the plugins of a tenant.
    Worker,
}

impl Role {
    const ALL: [Role; 2] = [Role::Compiler, Role::Worker];

    /// Returns the name under which the process is started and listed.
    #[must_use]
    pub fn name(self) -> &'static CStr {
        match self {
            Role::Compiler => c"flowgate-compiler",
            Role::Worker => c"flowgate-worker",
        }
    }

    /// Returns the role of a process that was started under this name.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name().to_bytes() == name)
    }

    /// Returns the name under which control groups of its processes begin.
    fn group(self) -> &'static str {
        match self {
            Role::Compiler => "compiler",
            Role::Worker => "worker",
        }
    }

    fn number(self) -> u16 {
        match self {
            Role::Compiler => 1,
            Role::Worker => 2,
        }
    }

    /// Takes the descriptors passed to a process of this role: its channel and `others` further ones. Also names the
    /// process after its role; otherwise it would be listed under the name of the executed file.
    ///
    /// # Errors
    /// If descriptors are missing, or the first one is not a channel: the process was not started by a spawner.
    pub fn descriptors(self, others: usize) -> io::Result<(Channel, Vec<OwnedFd>)> {
        let channel = Channel::from_descriptor(sys::inherited(CHANNEL)?)?;
        // Only for display; failure is harmless.
        let _ = prctl::set_name(self.name());
        let others =
            (0..others).map(|number| sys::inherited(CHANNEL + 1 + RawFd::try_from(number).unwrap_or(RawFd::MAX - 4)));
        Ok((channel, others.collect::<io::Result<_>>()?))
    }
}

/// The entry point of a role where the program cannot be executed again. Returns its exit status.
pub type Entry = fn(Role) -> u8;

/// A request to start a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The role of the process.
    pub role: Role,
    /// Its resource limits.
    pub limits: Limits,
    /// The nice value (`nice(2)`), from 0 to 19.
    pub nice: u8,
    /// The limits of its control group, where it gets one.
    pub group: GroupLimits,
}

/// An order as the spawner receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    role: Role,
    limits: Limits,
    nice: u8,
    /// True if the second descriptor is the entrance to the control group of the process.
    grouped: bool,
}

impl Order {
    fn write(&self, grouped: bool) -> Result<Vec<u8>, Violation> {
        let record = Record::new(START, 0).u16(self.role.number()).u8(self.nice).bool(grouped);
        self.limits.write(record).finish()
    }
}

impl Start {
    fn read(record: &[u8]) -> Result<Self, Violation> {
        let frame = Frame::read(record, 0)?;
        if frame.kind != START {
            return Err(Violation::Kind(frame.kind));
        }
        let mut body: Body<'_> = frame.body;
        let (number, nice, grouped) = (body.u16()?, body.u8()?, body.bool()?);
        let role = Role::ALL.into_iter().find(|role| role.number() == number);
        let (role, limits) = (role.ok_or(Violation::Value(number.into()))?, Limits::read(&mut body)?);
        body.end()?;
        Ok(Start { role, limits, nice, grouped })
    }
}

/// What separates the processes of a spawner from each other and from the rest of the machine, besides what they give
/// up themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Separation {
    /// The users of processes, each of which has one that no other process has; `None` if all have that of the owner.
    pub users: Option<UserRange>,
    /// True if they are in a PID namespace of their own, in which the spawner is process 1.
    pub pid_namespace: bool,
}

/// The owner's handle on the spawner process, which ends with the owner.
#[derive(Debug)]
pub struct Spawner {
    orders: Channel,
    pid: Pid,
    separation: Separation,
    groups: Option<Groups>,
}

impl Spawner {
    /// Forks the spawner, which keeps no descriptor except the channel for orders, and no capabilities except those
    /// that users of their own take.
    ///
    /// With `groups`, each process gets one of them. Where there can be no PID namespace, they do without.
    ///
    /// `entry` runs in place of the program where that cannot be executed again, that is, without `/proc`.
    ///
    /// # Safety
    /// The calling process must be single-threaded.
    ///
    /// # Errors
    /// If the kernel cannot create the process or the sockets. Whether processes can have users of their own says
    /// [`Spawner::check_users`] before; where they cannot, none starts.
    #[allow(unsafe_code)]
    pub unsafe fn fork(entry: Entry, mut separation: Separation, groups: Option<Groups>) -> io::Result<Self> {
        let (orders, other) = Channel::pair()?;
        let program = own_program();
        let users = separation.users.map(|range| Users::new(range, std::process::id()));
        // SAFETY: the caller guarantees that this process is single-threaded.
        let first = separation.pid_namespace.then(|| unsafe { sys::fork_as_first() }.ok()).flatten();
        separation.pid_namespace = first.is_some();
        // SAFETY: as above.
        match first.map_or_else(|| unsafe { sys::fork() }, Ok)? {
            Some(pid) => Ok(Spawner { orders, pid, separation, groups }),
            None => {
                drop(orders);
                let status = Loop::begin(other, program, entry, users).and_then(Loop::serve).is_err();
                sys::exit(status.into());
            }
        }
    }

    /// Checks that processes can be started as users of this range.
    ///
    /// # Safety
    /// The calling process must be single-threaded.
    ///
    /// # Errors
    /// Why they cannot: capabilities are missing, the user namespace lacks the users, or they may not execute the
    /// program.
    #[allow(unsafe_code, reason = "it forks")]
    pub unsafe fn check_users(range: UserRange) -> io::Result<()> {
        range.check(own_program().as_ref())
    }

    /// Returns what separates the processes that are started.
    #[must_use]
    pub fn separation(&self) -> Separation {
        self.separation
    }

    /// Returns the controllers of the control groups of processes, if each has one.
    #[must_use]
    pub fn controllers(&self) -> Option<Controllers> {
        self.groups.as_ref().map(Groups::controllers)
    }

    /// Removes the control groups of processes that have ended.
    pub fn tidy(&self) {
        if let Some(groups) = &self.groups {
            groups.tidy();
        }
    }

    /// Ends the spawner and the processes it has started, and waits until they are gone. (Orphans would be reparented
    /// to the init process, which in a container may not reap them.)
    pub fn end(&self) {
        // Fails if the spawner has already ended.
        let _ = shutdown(self.orders.as_fd().as_raw_fd(), Shutdown::Both);
        let _ = waitpid(self.pid, None);
        self.tidy();
    }

    /// Returns true if the spawner has ended, for whatever reason.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // The spawner never sends on this channel, so the only thing that can be read is its end.
        sys::readable(self.orders.as_fd(), Duration::ZERO).unwrap_or(true)
    }

    /// Starts a process that receives its end of the channel and these descriptors.
    ///
    /// # Errors
    /// If the spawner has ended, or the kernel cannot create sockets. Later failures are reported by [`Child::wait`].
    pub fn start(&self, order: &Order, channel: Channel, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
        // Without a group it is held by the other limits.
        let group = self.groups.as_ref().and_then(|groups| groups.create(order.role.group(), &order.group).ok());
        let entrance = group.as_ref().and_then(|group| group.entrance().ok());
        let group = group.filter(|_| entrance.is_some());
        let record = order.write(entrance.is_some());
        let record = record.map_err(|violation| io::Error::new(io::ErrorKind::InvalidInput, violation))?;
        let (child, other) = Child::pair(group)?;
        let first = [Some(other.as_fd()), entrance.as_ref().map(File::as_fd), Some(channel.as_fd())];
        let all: Vec<BorrowedFd<'_>> = first.into_iter().flatten().chain(descriptors.iter().copied()).collect();
        self.orders.send(&record, &all)?;
        Ok(child)
    }
}

/// Opens the program of this process: it is executed by descriptor, so that an update of the file on disk does not mix
/// two versions.
fn own_program() -> Option<File> {
    File::open("/proc/self/exe").ok()
}

/// A process that has not been reaped yet.
struct Running {
    pid: Pid,
    lease: Channel,
    /// The user whom nobody else has.
    user: Option<u32>,
}

/// The state of the spawner process.
struct Loop {
    orders: Channel,
    program: Option<File>,
    entry: Entry,
    ends: SignalFd,
    running: Vec<Running>,
    /// The users of processes, if each has one of its own.
    users: Option<Users>,
    own: Pid,
}

impl Loop {
    /// Drops what the spawner does not need.
    fn begin(orders: Channel, program: Option<File>, entry: Entry, users: Option<Users>) -> io::Result<Self> {
        let _ = prctl::set_name(c"flowgate-spawner");
        // Signals from a terminal, and those that systemd sends to all processes of a unit, are meant for the owner,
        // which may want to finish its work. The spawner ends when the owner does.
        unistd::setsid()?;
        for signal in
            [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGPIPE]
        {
            ignore(signal)?;
        }
        // It keeps a descriptor for each process. A lower limit is one for fewer processes.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
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
        let kept = if users.is_some() { users::capabilities() } else { 0 };
        sandbox::keep_capabilities(kept).map_err(io::Error::other)?;
        let own = unistd::getpid();
        let orders = Channel::from_descriptor(orders)?;
        let this = Loop { orders, program, entry, ends, running: Vec::new(), users, own };
        this.close_others();
        Ok(this)
    }

    /// Closes inherited descriptors: as long as a pipe is open here, its reader does not see the end.
    fn close_others(&self) {
        let mut kept: Vec<RawFd> = [self.orders.as_fd().as_raw_fd(), self.ends.as_fd().as_raw_fd()].into();
        kept.extend(self.program.as_ref().map(|program| program.as_raw_fd()));
        sys::close_all_but(3, &kept);
    }

    /// Serves orders until the owner has ended.
    fn serve(mut self) -> io::Result<()> {
        let mut buffer = Channel::buffer();
        loop {
            let wanted = |descriptor: RawFd| libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
            let mut polled = vec![wanted(self.orders.as_fd().as_raw_fd()), wanted(self.ends.as_fd().as_raw_fd())];
            polled.extend(self.running.iter().map(|running| wanted(running.lease.as_fd().as_raw_fd())));
            sys::poll(&mut polled, -1)?;
            let ready: Vec<bool> = polled.iter().map(|descriptor| descriptor.revents != 0).collect();
            for (running, _) in self.running.iter().zip(ready.iter().skip(2)).filter(|(_, ready)| **ready) {
                // The lease is closed when the owner drops its handle: it no longer wants the process.
                send(
                    running.pid,
                    match next_request(&running.lease) {
                        Request::Stop => Signal::SIGSTOP,
                        Request::Continue => Signal::SIGCONT,
                        Request::End => Signal::SIGKILL,
                    },
                );
            }
            // One signal may stand for several processes that have ended.
            while let Ok(Some(_)) = self.ends.read_signal() {}
            self.collect();
            if ready.first().copied().unwrap_or_default() {
                let (length, descriptors) = sys::receive(&self.orders, &mut buffer)?;
                if length == 0 {
                    break;
                }
                let record = buffer.get(..length).unwrap_or_default();
                let order =
                    Start::read(record).map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))?;
                self.start(&order, descriptors);
            }
        }
        for running in &self.running {
            send(running.pid, Signal::SIGKILL);
            let _ = waitpid(running.pid, None);
        }
        Ok(())
    }

    /// Reaps the processes that have ended, and reports each to its owner.
    fn collect(&mut self) {
        let users = &mut self.users;
        self.running.retain(|running| match sys::collect(running.pid) {
            Some(ending) => {
                report_end(&running.lease, &ending);
                if let (Some(users), Some(user)) = (users.as_mut(), running.user) {
                    users.give_back(user);
                }
                false
            }
            None => true,
        });
    }

    /// Starts a process; the first descriptor is its lease, the second one the entrance to its group if it has one.
    fn start(&mut self, order: &Start, mut descriptors: Vec<OwnedFd>) {
        if descriptors.len() < 2 + usize::from(order.grouped) {
            return;
        }
        let Ok(lease) = Channel::from_descriptor(descriptors.remove(0)) else { return };
        let user = match self.users.as_mut().map(Users::take).transpose() {
            Ok(user) => user,
            Err(reason) => return report_refusal(&lease, &format!("`worker-uids`: {reason}")),
        };
        // SAFETY: this process is single-threaded.
        #[allow(unsafe_code)]
        let forked = unsafe { sys::fork() };
        match forked {
            Err(error) => {
                report_failure(&lease, "cannot start a process", &error);
                if let (Some(users), Some(user)) = (self.users.as_mut(), user) {
                    users.give_back(user);
                }
            }
            Ok(Some(pid)) => {
                self.running.push(Running { pid, lease, user });
            }
            Ok(None) => {
                report_start(&lease);
                // Used only to report a failure; it is closed when the program is executed.
                let status = match sys::aside(lease.as_fd()).and_then(Channel::from_descriptor) {
                    Ok(lease) => match self.become_other(order, user, &descriptors) {
                        // Not a destructor of descriptors runs: the process has closed them by their numbers.
                        Ok(status) => sys::exit(status),
                        Err((step, error)) => {
                            report_failure(&lease, step, &error);
                            127
                        }
                    },
                    Err(_) => 127,
                };
                sys::exit(status);
            }
        }
    }

    /// Turns the calling process, which has just been forked, into one of this role. Returns only if the program cannot
    /// be executed.
    fn become_other(
        &self,
        order: &Start,
        user: Option<u32>,
        descriptors: &[OwnedFd],
    ) -> Result<u8, (&'static str, io::Error)> {
        let (entrance, descriptors) = descriptors.split_at(usize::from(order.grouped));
        for entrance in entrance {
            // The process that writes.
            unistd::write(entrance, b"0").map_err(|errno| ("cannot enter its control group", errno.into()))?;
        }
        // A refusal is harmless: the process then keeps its default score. The file belongs to root unless the process
        // is dumpable, which the program that it executes is at first anyway.
        let _ = prctl::set_dumpable(true);
        let _ = fs::write("/proc/self/oom_score_adj", SACRIFICE);
        sandbox::give_way(order.nice);
        SigSet::empty().thread_set_mask().map_err(|errno| ("cannot reset signals", errno.into()))?;
        let program = self.program.as_ref().map(|program| sys::aside(program.as_fd())).transpose();
        let program = program.map_err(|error| ("cannot keep the program open", error))?;
        let next = sys::place(descriptors, CHANNEL).map_err(|error| ("cannot pass descriptors", error))?;
        if let Some(user) = user {
            sys::limit_processes(PROCESSES).map_err(|error| ("cannot limit processes", error))?;
            users::become_user(user)?;
            sandbox::drop_capabilities().map_err(|error| ("cannot drop capabilities", io::Error::other(error)))?;
        }
        // A change of the user clears it. The signal is sent when the spawner's only thread ends. If the spawner has
        // already ended, the check below notices.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| ("cannot follow the end of others", errno.into()))?;
        if unistd::getppid() != self.own {
            return Ok(127);
        }
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

/// Sends a signal to a process that has not been reaped, so its process ID cannot have been reused.
fn send(pid: Pid, signal: Signal) {
    // Fails if the process has already ended.
    let _ = kill(pid, signal);
}

/// Ignores a signal.
#[allow(unsafe_code)]
fn ignore(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler runs for an ignored signal.
    unsafe { sigaction(signal, &action) }.map(|_| ()).map_err(io::Error::from)
}
