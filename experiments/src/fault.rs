//! The faults Squall can inject, as a file says them. How each is held is the agent's business.

use crate::filter::Filter;
use crate::units::{BitRate, Delay as DelayTime, Interval, LoadPercent, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

mod disk;
mod dns;
mod exhaust;
mod fds;
mod freeze;
mod holding;
mod http;
mod memory;
mod node;
mod pause;
mod tcp;

pub use disk::{Fill, FillGoal, FolderPath, Io, IoRate, PathError};
pub use dns::{Dns, DnsEffect, RecordType};
pub use exhaust::{Exhaust, ExhaustGoal, Exhausted};
pub use fds::Fds;
pub use freeze::Freeze;
pub use holding::Holding;
pub use http::{Http, HttpEffect, Replace, Requests, Status};
pub use memory::{Memory, MemoryBase, MemorySize};
pub use node::{InterfaceName, InterfaceNameError, Irreversible, NicDown, Reboot, Shutdown};
pub use pause::Pause;
pub use tcp::{Tcp, TcpEffect};

/// One fault: exactly one kind, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Packets arrive late.
    Delay(Delay),
    /// Packets are lost.
    Loss(Loss),
    /// Packets arrive twice.
    Duplicate(Duplicate),
    /// A bit of a packet is flipped.
    Corrupt(Corrupt),
    /// Packets overtake others.
    Reorder(Reorder),
    /// A link with less bandwidth.
    Rate(Rate),
    /// Nothing gets through.
    Partition(Partition),
    /// Processes are sent a signal.
    Kill(Kill),
    /// Processor time is burnt.
    Cpu(Cpu),
    /// Memory is taken.
    Memory(Memory),
    /// Names do not resolve, or falsely, or late.
    Dns(Dns),
    /// Requests are refused, late, cut short or changed.
    Http(Http),
    /// Processes stand still.
    Pause(Pause),
    /// A file system is filled.
    Fill(Fill),
    /// A file system is kept busy.
    Io(Io),
    /// Something limited is used up.
    Exhaust(Exhaust),
    /// A cgroup stands still.
    Freeze(Freeze),
    /// Connections are reset, refused, slow to close, or stand still.
    Tcp(Tcp),
    /// An interface is down.
    NicDown(NicDown),
    /// The node starts anew.
    Reboot(Reboot),
    /// The node is off.
    Shutdown(Shutdown),
    /// Processes run out of file descriptors.
    Fds(Fds),
}

/// The kinds of [`Fault`], without parameters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each is documented at Fault")]
pub enum FaultKind {
    Delay,
    Loss,
    Duplicate,
    Corrupt,
    Reorder,
    Rate,
    Partition,
    Kill,
    Cpu,
    Memory,
    Dns,
    Http,
    Pause,
    Fill,
    Io,
    Exhaust,
    Freeze,
    Tcp,
    NicDown,
    Reboot,
    Shutdown,
    Fds,
}

impl FaultKind {
    /// Every kind there is, in the order in which people meet them.
    pub const ALL: [Self; 22] = [
        Self::Delay,
        Self::Loss,
        Self::Duplicate,
        Self::Corrupt,
        Self::Reorder,
        Self::Rate,
        Self::Partition,
        Self::Kill,
        Self::Cpu,
        Self::Memory,
        Self::Dns,
        Self::Http,
        Self::Pause,
        Self::Fill,
        Self::Io,
        Self::Exhaust,
        Self::Freeze,
        Self::Tcp,
        Self::NicDown,
        Self::Reboot,
        Self::Shutdown,
        Self::Fds,
    ];

    /// The word for it in a file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Corrupt => "corrupt",
            Self::Reorder => "reorder",
            Self::Rate => "rate",
            Self::Partition => "partition",
            Self::Kill => "kill",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Pause => "pause",
            Self::Fill => "fill",
            Self::Io => "io",
            Self::Exhaust => "exhaust",
            Self::Freeze => "freeze",
            Self::Tcp => "tcp",
            Self::NicDown => "nicDown",
            Self::Reboot => "reboot",
            Self::Shutdown => "shutdown",
            Self::Fds => "fds",
        }
    }

    /// Whether it acts on packets, or on what carries them, and so on a whole network namespace.
    #[must_use]
    pub const fn is_network(self) -> bool {
        !self.is_on_processes() && !self.is_pressure() && !self.is_for_good()
    }

    /// Whether it is the end of a node, which nothing takes back.
    #[must_use]
    pub const fn is_for_good(self) -> bool {
        matches!(self.holding(), Holding::Nothing)
    }

    /// Whether it presses on what the target shares with others, and so is held inside the target's cgroup.
    #[must_use]
    pub const fn is_pressure(self) -> bool {
        matches!(
            self,
            Self::Cpu | Self::Memory | Self::Fill | Self::Io | Self::Exhaust
        )
    }

    /// Whether it acts on processes themselves, which a node as a whole has none to spare of.
    #[must_use]
    pub const fn is_on_processes(self) -> bool {
        matches!(self, Self::Kill | Self::Pause | Self::Freeze | Self::Fds)
    }

    /// Whether it shapes packets (netem's domain), rather than refusing them.
    #[must_use]
    pub const fn is_shaping(self) -> bool {
        self.is_network()
            && !matches!(self, Self::Partition | Self::Tcp | Self::NicDown)
            && !self.is_redirecting()
    }

    /// Whether it reads what the packets say, and so leads them to the holder.
    #[must_use]
    pub const fn is_redirecting(self) -> bool {
        matches!(self, Self::Dns | Self::Http)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How a delay varies around its time (netem's distribution tables).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Evenly within time ± jitter.
    #[default]
    Uniform,
    /// Normal; jitter is the standard deviation.
    Normal,
    /// Pareto: a long tail to the late side.
    Pareto,
    /// A quarter normal, three quarters Pareto.
    ParetoNormal,
}

/// Packets arrive `time` late, give or take `jitter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delay {
    /// How late.
    pub time: DelayTime,
    /// How much that varies; none where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<DelayTime>,
    /// The shape of the variation; only with a jitter.
    #[serde(default)]
    pub distribution: Distribution,
    /// How much each packet's delay resembles the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Percent>,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

/// Packets are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// By which model.
    pub model: LossModel,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

/// How the lost packets are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LossModel {
    /// Each on its own, or resembling the one before.
    Random(Chance),
    /// Bursts: Gilbert-Elliott's two states.
    Gemodel(Gemodel),
}

/// A probability per packet, which may depend on the packet before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chance {
    /// The probability.
    pub probability: Percent,
    /// How much each decision resembles the one before (netem's correlation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Percent>,
}

/// Gilbert-Elliott loss, in netem's letters: `p` good to bad, `r` bad to good, lost in the bad state with
/// `1-h`, in the good state with `1-k`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gemodel {
    /// The chance, per packet, of going from the good state to the bad.
    pub p: Percent,
    /// The chance, per packet, of going back.
    pub r: Percent,
    /// Loss in the bad state (`1-h`); all where nothing is said.
    #[serde(default = "Gemodel::bad_default")]
    pub bad: Percent,
    /// Loss in the good state (`1-k`); none where nothing is said.
    #[serde(default = "Gemodel::good_default")]
    pub good: Percent,
}

impl Gemodel {
    /// All packets are lost in the bad state.
    pub const BAD_DEFAULT: Percent = Percent::ALL;
    /// None is lost in the good state.
    pub const GOOD_DEFAULT: Percent = Percent::NONE;

    const fn bad_default() -> Percent {
        Self::BAD_DEFAULT
    }
    const fn good_default() -> Percent {
        Self::GOOD_DEFAULT
    }
}

/// Packets arrive twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Duplicate {
    /// How often.
    pub chance: Chance,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

/// One random bit of a packet is flipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Corrupt {
    /// How often.
    pub chance: Chance,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

/// Chosen packets go at once, while the others are `time` late: so they overtake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reorder {
    /// How often a packet overtakes.
    pub chance: Chance,
    /// How late the others are; must be above zero.
    pub time: DelayTime,
    /// Only every n-th packet may overtake (netem's gap); 1 where nothing is said.
    #[serde(default = "one")]
    pub gap: u32,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

const fn one() -> u32 {
    1
}

/// A link with less bandwidth; what does not fit waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Bits per second that get through.
    pub limit: BitRate,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

/// How a partition treats a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PartitionMode {
    /// Silently gone: callers wait until they time out.
    #[default]
    Drop,
    /// Refused: TCP resets, ICMP port unreachable. Callers fail at once.
    Reject,
}

/// Nothing gets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Partition {
    /// Silently, or with a refusal.
    #[serde(default)]
    pub mode: PartitionMode,
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
}

/// The signals a kill may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "POSIX names: signal(7)")]
pub enum Signal {
    #[default]
    Kill,
    Term,
    Int,
    Hup,
    Quit,
    Abrt,
    Segv,
    Usr1,
    Usr2,
}

/// Processes are sent a signal: once, or again and again as they come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kill {
    /// Which signal.
    #[serde(default)]
    pub signal: Signal,
    /// A crash loop: whatever matches the target again is killed again, this often. Once where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Interval>,
}

/// What a processor load is a share of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CpuBase {
    /// One core: 250 % keeps two and a half cores busy.
    #[default]
    Core,
    /// The target cgroup's CPU quota; refused where it has none.
    Quota,
}

/// Processor time is burnt inside the target's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cpu {
    /// How much.
    pub load: LoadPercent,
    /// Of what.
    #[serde(default)]
    pub of: CpuBase,
}

impl Fault {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Delay(_) => FaultKind::Delay,
            Self::Loss(_) => FaultKind::Loss,
            Self::Duplicate(_) => FaultKind::Duplicate,
            Self::Corrupt(_) => FaultKind::Corrupt,
            Self::Reorder(_) => FaultKind::Reorder,
            Self::Rate(_) => FaultKind::Rate,
            Self::Partition(_) => FaultKind::Partition,
            Self::Kill(_) => FaultKind::Kill,
            Self::Cpu(_) => FaultKind::Cpu,
            Self::Memory(_) => FaultKind::Memory,
            Self::Dns(_) => FaultKind::Dns,
            Self::Http(_) => FaultKind::Http,
            Self::Pause(_) => FaultKind::Pause,
            Self::Fill(_) => FaultKind::Fill,
            Self::Io(_) => FaultKind::Io,
            Self::Exhaust(_) => FaultKind::Exhaust,
            Self::Freeze(_) => FaultKind::Freeze,
            Self::Tcp(_) => FaultKind::Tcp,
            Self::NicDown(_) => FaultKind::NicDown,
            Self::Reboot(_) => FaultKind::Reboot,
            Self::Shutdown(_) => FaultKind::Shutdown,
            Self::Fds(_) => FaultKind::Fds,
        }
    }

    /// Whether it can be kept to the packets of some of a network namespace's processes: the holder must look at each
    /// packet before it is hit.
    #[must_use]
    pub const fn may_have_owner(&self) -> bool {
        match self {
            Self::Tcp(tcp) => !matches!(tcp.effect, TcpEffect::Stall),
            Self::Partition(_) | Self::Dns(_) | Self::Http(_) => true,
            _ => self.kind().is_shaping(),
        }
    }

    /// Which packets it touches, for those that touch packets.
    #[must_use]
    pub const fn filter(&self) -> Option<&Filter> {
        match self {
            Self::Delay(f) => Some(&f.filter),
            Self::Loss(f) => Some(&f.filter),
            Self::Duplicate(f) => Some(&f.filter),
            Self::Corrupt(f) => Some(&f.filter),
            Self::Reorder(f) => Some(&f.filter),
            Self::Rate(f) => Some(&f.filter),
            Self::Partition(f) => Some(&f.filter),
            Self::Dns(f) => Some(&f.filter),
            Self::Http(f) => Some(&f.filter),
            Self::Tcp(f) => Some(&f.filter),
            Self::Kill(_) | Self::Cpu(_) | Self::Memory(_) | Self::Pause(_) => None,
            Self::Fill(_) | Self::Io(_) | Self::Exhaust(_) | Self::Freeze(_) => None,
            Self::NicDown(_) | Self::Reboot(_) | Self::Shutdown(_) | Self::Fds(_) => None,
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.probability.fmt(f)?;
        self.correlation
            .map_or(Ok(()), |c| write!(f, " (correlation {c})"))
    }
}

/// As a person would say it, and as `ps` shows it: `delay 100ms±10ms to 10.0.0.2:8080`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(d) => {
                write!(f, "delay {}", d.time)?;
                d.jitter.map_or(Ok(()), |jitter| write!(f, "±{jitter}"))?;
            }
            Self::Loss(l) => match &l.model {
                LossModel::Random(chance) => write!(f, "loss {chance}")?,
                LossModel::Gemodel(ge) => write!(f, "loss gemodel p {} r {}", ge.p, ge.r)?,
            },
            Self::Duplicate(d) => write!(f, "duplicate {}", d.chance)?,
            Self::Corrupt(c) => write!(f, "corrupt {}", c.chance)?,
            Self::Reorder(r) => write!(f, "reorder {} by {}", r.chance, r.time)?,
            Self::Rate(r) => write!(f, "rate {}", r.limit)?,
            Self::Partition(p) => match p.mode {
                PartitionMode::Drop => f.write_str("partition drop")?,
                PartitionMode::Reject => f.write_str("partition reject")?,
            },
            Self::Kill(k) => {
                write!(f, "kill {}", format!("{:?}", k.signal).to_uppercase())?;
                k.every
                    .map_or(Ok(()), |every| write!(f, " every {every}"))?;
            }
            Self::Cpu(c) => match c.of {
                CpuBase::Core => write!(f, "cpu {} of a core", c.load)?,
                CpuBase::Quota => write!(f, "cpu {} of the quota", c.load)?,
            },
            Self::Memory(m) => match (m.size, m.of) {
                (MemorySize::Share(_), MemoryBase::Target) => {
                    write!(f, "memory {} of the limit", m.size)?
                }
                (MemorySize::Share(_), MemoryBase::Host) => {
                    write!(f, "memory {} of the host", m.size)?
                }
                _ => write!(f, "memory {}", m.size)?,
            },
            Self::Dns(d) => d.fmt(f)?,
            Self::Http(h) => h.fmt(f)?,
            Self::Pause(pause) => pause.fmt(f)?,
            Self::Fill(fill) => fill.fmt(f)?,
            Self::Io(io) => io.fmt(f)?,
            Self::Exhaust(exhaust) => exhaust.fmt(f)?,
            Self::Freeze(freeze) => freeze.fmt(f)?,
            Self::Tcp(tcp) => tcp.fmt(f)?,
            Self::NicDown(nic) => nic.fmt(f)?,
            Self::Fds(fds) => fds.fmt(f)?,
            Self::Reboot(_) | Self::Shutdown(_) => self.kind().fmt(f)?,
        }
        match self.filter().map(ToString::to_string) {
            Some(filter) if !filter.is_empty() => write!(f, " {filter}"),
            _ => Ok(()),
        }
    }
}
