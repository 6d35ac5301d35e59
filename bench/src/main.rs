//! `make bench`: the floor, Freehold, and what people use today, side by side in one run.
//!
//! Starts `freehold dev` (the release binary beside this one) on directories of its own with durability as users get
//! it, prints a table, writes JSON, and stops everything. Goals are reported; `--assert` makes a missed one exit 1.

mod bench;
mod cpu;
mod create;
mod delay;
mod disk;
mod fleet;
mod floor;
mod hand;
mod idle;
mod listing;
mod moves;
mod pooled;
mod refill;
mod reload;
mod report;
mod samples;
mod schema;
mod servers;
mod today;
mod turn;
mod weak;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::json;

use report::Report;

pub type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
struct Args {
    /// Fewer samples, and nothing that needs a thousand databases: at most three minutes
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Exit with 1 when a goal is missed
    #[arg(long)]
    assert: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// The result is target/bench/NAME.json [default: quick or full]
    #[arg(long)]
    name: Option<String>,
    /// The program to measure [default: freehold, beside this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Floor, creates with and without stock, script, django-tenants
    Create,
    /// Sustained creates against the same by hand
    Sustained,
    /// First query and throughput through the pooler
    Pooled,
    /// What a reload of the pooler costs those who are at work in it, with 10 to 10,000 databases
    Reload,
    /// List and show with 100,000 tenants in the store
    Listing,
    /// CPU and memory of an idle plane with 1,000 tenants, then first query and refill with 3,000
    Fleet,
    /// What those who write wait for when their tenant moves to another server, and how long that takes
    Moves,
    /// Creates on a server with 500 tenants whose admin is no superuser
    Weak,
    /// Creates per second on one and on four servers; a create and its placement with 1,000 servers in the store
    Servers,
}

/// How much of everything.
pub struct Scale {
    pub is_quick: bool,
    pub rounds: usize,
    pub slow: usize,
    pub creates: usize,
    pub burst: usize,
    pub special: usize,
    pub first: usize,
    pub cold: usize,
    pub turns: usize,
    pub turn: Duration,
    /// Databases in one pooler.
    pub pooled: &'static [usize],
    pub store_tenants: usize,
    pub store_samples: usize,
    pub idle_tenants: u32,
    pub idle: Duration,
    pub weak_tenants: u32,
    pub servers: u32,
    /// Megabytes of a tenant, and how often it is moved.
    pub moved: &'static [(u64, usize)],
    /// The size that a picture is made of.
    pub pictured: u64,
    pub each_of_four: u64,
    pub fours: usize,
    pub many: u32,
    pub many_rounds: usize,
    /// How long a fill may take.
    pub patience: Duration,
}

impl Scale {
    fn quick() -> Self {
        Self {
            is_quick: true,
            rounds: 8,
            slow: 6,
            creates: 40,
            burst: 64,
            special: 16,
            first: 24,
            cold: 8,
            turns: 2,
            turn: Duration::from_secs(8),
            pooled: &[10, 1_000],
            store_tenants: 100_000,
            store_samples: 200,
            idle_tenants: 100,
            idle: Duration::from_secs(20),
            weak_tenants: 40,
            servers: 1_000,
            moved: &[(30, 2), (150, 1)],
            pictured: 150,
            each_of_four: 30,
            fours: 1,
            many: 200,
            many_rounds: 2,
            patience: Duration::from_secs(120),
        }
    }

    fn full() -> Self {
        Self {
            is_quick: false,
            rounds: 20,
            slow: 20,
            creates: 200,
            burst: 320,
            special: 50,
            first: 60,
            cold: 20,
            turns: 4,
            turn: Duration::from_secs(15),
            pooled: &[10, 1_000, 10_000],
            store_tenants: 100_000,
            store_samples: 1_000,
            idle_tenants: 1_000,
            idle: Duration::from_secs(60),
            weak_tenants: 500,
            servers: 1_000,
            moved: &[(100, 6), (1_000, 3), (3_000, 2)],
            pictured: 1_000,
            each_of_four: 100,
            fours: 2,
            many: 3_000,
            many_rounds: 3,
            patience: Duration::from_secs(600),
        }
    }
}

/// Progress, for whoever waits.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            say(&format!("broken: {}", chain(error.as_ref())));
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Res<ExitCode> {
    let began = Instant::now();
    let binary = match args.binary {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("freehold"),
    };
    if !binary.exists() {
        return Err(format!("{} is not there; build it: cargo build --release -p freehold", binary.display()).into());
    }
    let scale = if args.quick { Scale::quick() } else { Scale::full() };
    let parts = match args.only.as_slice() {
        // Reloads, the idle plane, the large fleet, moves and other servers are in the full run only.
        [] if args.quick => vec![Part::Create, Part::Sustained, Part::Pooled, Part::Listing],
        [] => Part::value_variants().to_vec(),
        only => only.to_vec(),
    };
    let mut report = Report::default();
    report.about.push(("mode".into(), if args.quick { "quick" } else { "full" }.into()));
    report.about.push(("at".into(), jiff::Timestamp::now().to_string().into()));
    let cores = std::thread::available_parallelism()?.get();
    report.about.push(("cores".into(), cores.into()));
    let mut broken = None;
    for (number, part) in parts.into_iter().enumerate() {
        if number > 0 && !scale.is_quick {
            disk::settle().await?;
        }
        let done = match part {
            Part::Create => create::run(&binary, &scale, &mut report).await,
            Part::Sustained => refill::run(&binary, &scale, &mut report).await,
            Part::Pooled => pooled::run(&binary, &scale, &mut report).await,
            Part::Reload => reload::run(&scale, &mut report).await,
            Part::Listing => listing::run(&binary, &scale, &mut report).await,
            Part::Fleet => fleet::run(&binary, &scale, &mut report).await,
            Part::Moves => moves::run(&binary, &scale, &mut report).await,
            Part::Weak => weak::run(&binary, &scale, &mut report).await,
            Part::Servers => servers::run(&binary, &scale, &mut report).await,
        };
        if let Err(error) = done {
            // What was measured before is shown all the same.
            let why = chain(error.as_ref());
            say(&format!("{part:?} is broken: {why}"));
            report.add(report::Row::skipped(format!("{part:?}"), format!("broken: {why}")));
            broken = Some(error);
        }
    }
    report.about.push(("load".into(), load().into()));
    report.about.push(("seconds".into(), json!(began.elapsed().as_secs())));
    write(&report, args.name.as_deref().unwrap_or(if args.quick { "quick" } else { "full" }))?;
    let text = if args.json { format!("{:#}\n", report.json()) } else { table(&report) };
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(error) = broken {
        return Err(error);
    }
    let failed = args.assert && !report.missed().is_empty();
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn table(report: &Report) -> String {
    let mut text = report.table();
    let missed = report.missed();
    if missed.is_empty() {
        text.push_str("\nEvery goal is met.\n");
    } else {
        text.push_str(&format!("\nMissed:\n  {}\n", missed.join("\n  ")));
    }
    text
}

fn write(report: &Report, name: &str) -> Res<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&directory)?;
    Ok(std::fs::write(directory.join(format!("{name}.json")), format!("{:#}\n", report.json()))?)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

/// Of the whole machine: who else was busy.
fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").map(|text| text.trim().to_owned()).unwrap_or_default()
}
