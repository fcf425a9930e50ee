//! What a container has of the machine beside its cgroup: a NUMA policy, network devices, a place in resctrl. Data only.

/// The NUMA policy of every process of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*`, with `MPOL_F_*` bits.
    pub mode: u32,
    /// The nodes, as a mask of 64-bit words.
    pub nodes: Vec<u64>,
}

/// A network device that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container.
    pub inside: String,
}

/// What a container has of Intel RDT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRdt {
    /// The control group.
    pub group: RdtGroup,
    /// The lines of its schemata.
    pub schemata: Vec<String>,
    /// What the hardware has to have.
    pub needs: Vec<RdtResource>,
    /// It has a monitoring group of its own.
    pub monitoring: bool,
}

/// What Intel RDT divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RdtResource {
    /// The L3 cache (CAT).
    Cache,
    /// The bandwidth of memory (MBA).
    Bandwidth,
}

/// A control group of resctrl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RdtGroup {
    /// The default one, at the top.
    Top,
    /// One by its name, shared with whoever names it.
    Named(String),
    /// One for this container, named for it.
    Own,
}
