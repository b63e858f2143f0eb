//! The metrics of the process, under the names that Prometheus' client libraries have for them
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::gauge::gauge;

/// The collector of what the system says of this process. Where the system does not say it, these
/// metrics are missing.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

struct ProcessState {
    cpu_seconds: f64,
    open_files: u64,
    open_files_limit: Option<u64>,
    virtual_bytes: u64,
    resident_bytes: u64,
    started_seconds: f64,
    threads: i64,
}

impl ProcessState {
    #[expect(clippy::cast_precision_loss, reason = "ticks of a process are few")]
    fn read() -> ProcResult<ProcessState> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second() as f64;
        let limit = process.limits()?.max_open_files.soft_limit;
        Ok(ProcessState {
            cpu_seconds: seconds(stat.utime + stat.stime),
            open_files: process.fd_count()? as u64,
            open_files_limit: match limit {
                LimitValue::Value(limit) => Some(limit),
                LimitValue::Unlimited => None,
            },
            virtual_bytes: stat.vsize,
            resident_bytes: stat.rss * page_size(),
            started_seconds: boot_time_secs()? as f64 + seconds(stat.starttime),
            threads: stat.num_threads,
        })
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state = match ProcessState::read() {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(%error, "the system does not say what this process uses");
                return Ok(());
            }
        };
        let encoder = &mut encoder;
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let help = "The time that the process has run on processors.";
        let mut cpu =
            encoder.encode_descriptor("process_cpu", help, seconds, MetricType::Counter)?;
        cpu.encode_counter::<NoLabelSet, _, u64>(&state.cpu_seconds, None)?;
        let help = "The files that the process has open.";
        gauge(encoder, "process_open_fds", help, None, state.open_files)?;
        if let Some(limit) = state.open_files_limit {
            let help = "The most files that the process may have open.";
            gauge(encoder, "process_max_fds", help, None, limit)?;
        }
        let help = "The virtual memory of the process. Most of it is reserved and not used.";
        let name = "process_virtual_memory";
        gauge(encoder, name, help, bytes, state.virtual_bytes)?;
        let help = "The memory of the process that is in use.";
        let name = "process_resident_memory";
        gauge(encoder, name, help, bytes, state.resident_bytes)?;
        let help = "When the process started, since the beginning of 1970.";
        let name = "process_start_time";
        gauge(encoder, name, help, seconds, state.started_seconds)?;
        let help = "The threads of the process.";
        gauge(encoder, "process_threads", help, None, state.threads)
    }
}
