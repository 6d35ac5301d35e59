//! The numbers: how much of what a server gets. Each says what bounds it.

const KB: u64 = 1024;
const MB: u64 = 1024 * KB;
const GB: u64 = 1024 * MB;

/// What a tenant may open at once, on average. Few do; a pooler makes it fewer.
pub const CONNECTIONS_PER_DATABASE: u32 = 20;
/// For Freehold, its probes and whoever looks after the server; only superusers get them.
pub(super) const RESERVED: u32 = 10;
/// Without limits nothing is known of the node: this much it has.
const ASSUMED_MEMORY: u64 = GB;

/// The launcher visits every database once in this time, and starts a worker for it whether or not there is something
/// to do: a process, a connection and a look at the catalogs. In a database that it sees for the first time it also reads
/// what all share (`pg_shdepend`), whose size it knows only from the template: 25 to 50 ms. Two a second are bearable.
pub fn autovacuum_naptime_seconds(databases: u32) -> u32 {
    (databases / 2).clamp(30, 900)
}

/// What one server has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    memory: u64,
    cpus: f64,
    disk: Option<u64>,
    databases: u32,
}

impl Size {
    pub(super) fn new(memory: Option<u64>, cpus: Option<f64>, disk: Option<u64>, databases: u32) -> Self {
        let memory = memory.unwrap_or(ASSUMED_MEMORY).max(128 * MB);
        Self { memory, cpus: cpus.unwrap_or(2.0).max(0.1), disk, databases: databases.max(1) }
    }

    pub(super) fn shared_buffers_mb(&self) -> u64 {
        (self.memory / 4 / MB).max(32)
    }

    pub(super) fn effective_cache_size_mb(&self) -> u64 {
        self.memory * 3 / 4 / MB
    }

    pub(super) fn connections_wanted(&self) -> u32 {
        self.databases.saturating_mul(CONNECTIONS_PER_DATABASE).saturating_add(RESERVED)
    }

    /// How many sessions half of the memory holds. Measured on 15: a session takes 1.1 MB of its own when it has done
    /// nothing and 2.8 MB when it has used a hundred tables; and its page tables, 8 bytes for each 4 kB of shared memory
    /// that it has touched, which no limit of PostgreSQL's bounds and huge pages only spare where the node has some.
    pub(super) fn connections_bearable(&self) -> u32 {
        let each = 3 * MB + self.shared_buffers_mb() * MB / 512;
        u32::try_from(self.memory / 2 / each).unwrap_or(u32::MAX).max(RESERVED + CONNECTIONS_PER_DATABASE)
    }

    pub(super) fn max_connections(&self) -> u32 {
        // PostgreSQL's own limit is 262,143.
        self.connections_wanted().min(self.connections_bearable()).min(10_000)
    }

    /// An eighth of the memory is there for sorts and hashes; one session in four is taken to be at work, with two each.
    pub(super) fn work_mem_kb(&self) -> u64 {
        let at_work = u64::from(self.max_connections() / 4).max(1);
        (self.memory / 8 / at_work / 2 / KB).clamp(1024, 64 * 1024)
    }

    /// Index builds and restores; they are rare.
    pub(super) fn maintenance_work_mem_mb(&self) -> u64 {
        (self.memory / 32 / MB).clamp(16, 1024)
    }

    /// Of each of several workers.
    pub(super) fn autovacuum_work_mem_mb(&self) -> u64 {
        (self.memory / 16 / u64::from(self.autovacuum_workers()) / MB).clamp(16, 512)
    }

    /// Below 2 GB one CREATE DATABASE in a hundred waits half a second for WAL segments. On a small disk it is that.
    pub(super) fn min_wal_size_mb(&self) -> u64 {
        self.disk_share(20).min(2048)
    }

    pub(super) fn max_wal_size_mb(&self) -> u64 {
        self.disk_share(10).clamp(2 * self.min_wal_size_mb(), 4096)
    }

    /// A replication slot that nobody reads must not fill the disk: it is given up first.
    pub(super) fn max_slot_wal_keep_size_mb(&self) -> u64 {
        self.disk_share(5).clamp(256, 16 * 1024)
    }

    /// A part of the disk in MB, and of 40 GB where its size is not known.
    fn disk_share(&self, part: u64) -> u64 {
        (self.disk.unwrap_or(40 * GB) / part / MB).max(64)
    }

    pub(super) fn autovacuum_naptime_seconds(&self) -> u32 {
        autovacuum_naptime_seconds(self.databases)
    }

    pub(super) fn autovacuum_workers(&self) -> u32 {
        let by_databases: u32 = match self.databases {
            ..100 => 3,
            100..1000 => 4,
            _ => 6,
        };
        // Workers that cannot run at the same time only take turns.
        by_databases.min(self.whole_cpus() + 2)
    }

    pub(super) fn whole_cpus(&self) -> u32 {
        (1..=64).rev().find(|n| f64::from(*n) <= self.cpus).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tuning_is_what_people_expect_of_ordinary_sizes() {
        let size = Size::new(Some(4 * GB), Some(2.0), Some(100 * GB), 50);
        assert_eq!((size.shared_buffers_mb(), size.effective_cache_size_mb()), (1024, 3072));
        assert_eq!((size.connections_wanted(), size.connections_bearable(), size.max_connections()), (1010, 409, 409));
        assert_eq!((size.min_wal_size_mb(), size.max_wal_size_mb()), (2048, 4096));
        assert_eq!((size.autovacuum_naptime_seconds(), size.autovacuum_workers()), (30, 3));
        let roomy = Size::new(Some(64 * GB), Some(16.0), None, 20);
        assert_eq!(roomy.max_connections(), 410, "20 for each of 20, and 10");
        assert_eq!(Size::new(Some(64 * GB), None, None, 1500).autovacuum_naptime_seconds(), 750);
    }

    proptest! {
        #[test]
        fn tuning_stays_within_what_there_is(
            memory in 0u64..(1 << 42), cpus in 0.0f64..256.0, disk in 0u64..(1 << 46), databases in 0u32..100_000,
        ) {
            let size = Size::new(Some(memory), Some(cpus), Some(disk), databases);
            let memory_mb = memory.max(128 * MB) / MB;
            prop_assert!(size.shared_buffers_mb() <= memory_mb / 4);
            prop_assert!((30..=10_000).contains(&size.max_connections()));
            // Sessions, buffers and sorts together.
            let sorts = size.work_mem_kb() * 2 * u64::from(size.max_connections() / 4) / 1024;
            if memory_mb >= 1024 {
                prop_assert!(sorts <= memory_mb / 4, "{} of {}", sorts, memory_mb);
            }
            prop_assert!(size.min_wal_size_mb() >= 64 && 2 * size.min_wal_size_mb() <= size.max_wal_size_mb());
            if disk > 4 * GB {
                let kept = size.max_wal_size_mb() + size.max_slot_wal_keep_size_mb();
                prop_assert!(kept * MB <= disk / 2, "{} MB of {}", kept, disk);
            }
            prop_assert!((1..=6).contains(&size.autovacuum_workers()));
            prop_assert!((16..=1024).contains(&size.maintenance_work_mem_mb()));
        }
    }
}
