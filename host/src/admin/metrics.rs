//! The metrics of the node, in the formats of Prometheus and OpenMetrics.
//!
//! The formats are described at <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. Nothing is kept here: each answer is
//! written from what the node knows at that moment.
//!
//! The labels are bounded: a plugin's name, if the plugin runs here or has clients here; one of the
//! plugin's last four generations; names that are in the program.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::gauge::gauge;
use super::process_metrics::ProcessMetrics;
use super::tokens::ApiCaller;
use super::view::{Stage, View};
use crate::histogram::HistogramSnapshot;
use crate::mesh::{Mesh, PeerState};
use crate::plugin::Plugin;
use crate::registry::Kind;

/// The content type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes the metrics that the caller may see, in a format that the header `accept` names. Returns
/// the content type and the text.
///
/// # Errors
///
/// A metric could not be written.
pub(super) fn write(
    view: &Arc<View>,
    caller: &ApiCaller,
    accept: Option<&str>,
) -> Result<(&'static str, String), fmt::Error> {
    let mut metrics = Registry::default();
    metrics.register_collector(Box::new(ProcessMetrics));
    metrics
        .sub_registry_with_prefix("jackfield")
        .register_collector(Box::new(NodeMetrics {
            view: view.clone(),
            caller: caller.clone(),
        }));
    let mut written = String::new();
    let is_open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    match is_open {
        true => text::encode(&mut written, &metrics)?,
        false => prometheus_text::encode(&mut written, &metrics)?,
    }
    let format = match is_open {
        true => OPEN_METRICS,
        false => prometheus_text::CONTENT_TYPE,
    };
    Ok((format, written))
}

/// The metrics of a node, as far as a caller may see them.
struct NodeMetrics {
    view: Arc<View>,
    caller: ApiCaller,
}

impl fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeMetrics")
    }
}

impl Collector for NodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        self.write_node(encoder)?;
        self.write_counters(encoder)?;
        self.write_durations(encoder)?;
        self.write_plugins(encoder)?;
        match self.view.mesh() {
            Some(mesh) => write_mesh(encoder, mesh),
            None => Ok(()),
        }
    }
}

impl NodeMetrics {
    fn write_node(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut version = encoder.encode_descriptor(
            "build_info",
            "The version of the node. The value is always 1.",
            None,
            MetricType::Gauge,
        )?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        version.encode_family(&labels)?.encode_gauge(&1)?;
        let registry = self.view.registry();
        let outboxes = registry.outbox_budget();
        let bytes = Some(&Unit::Bytes);
        for (name, help, unit, number) in [
            (
                "ready",
                "Whether the node accepts clients: 1 or 0.",
                None,
                i64::from(self.view.stage() == Stage::Ready),
            ),
            (
                "clients_limit",
                "The most clients that the node accepts (limits.clients).",
                None,
                count(registry.limits().clients),
            ),
            (
                "outboxes",
                "What waits in the outboxes of all clients together, in chunks of 16 KiB.",
                bytes,
                count(outboxes.used()),
            ),
            (
                "outboxes_limit",
                "The most that may wait in the outboxes of all clients together (limits.outboxes_bytes).",
                bytes,
                count(outboxes.most()),
            ),
        ] {
            gauge(encoder, name, help, unit, number)?;
        }
        Ok(())
    }

    fn write_counters(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        for (name, help, value) in self.view.registry().counters().snapshot() {
            let help = help.trim();
            // The units of Prometheus have no prefixes.
            match name.strip_suffix("_ms") {
                Some(name) => {
                    let (kind, unit) = (MetricType::Counter, Some(&Unit::Seconds));
                    let help = help.trim_end_matches(", in milliseconds.");
                    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
                    let seconds = value as f64 / 1_000.0;
                    let mut metric = encoder.encode_descriptor(name, help, unit, kind)?;
                    metric.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
                }
                None => {
                    let kind = MetricType::Counter;
                    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
                    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
                }
            }
        }
        Ok(())
    }

    fn write_durations(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let durations = &self.view.registry().counters().durations;
        let mut handshakes = durations_of(
            encoder,
            "handshake_duration",
            "How long handshakes took, and requests for pages, from the connection to the answer. \
             101 is in 1xx.",
        )?;
        for (times, status) in durations
            .handshakes
            .iter()
            .zip(["1xx", "2xx", "3xx", "4xx", "5xx"])
        {
            histogram(&mut handshakes, &[("status", status)], &times.snapshot())?;
        }
        let mut loads = durations_of(
            encoder,
            "load_duration",
            "How long loads of plugins took, from the read of their files to the end of on-start.",
        )?;
        for (outcome, times) in [
            ("ok", &durations.loads),
            ("failed", &durations.failed_loads),
        ] {
            histogram(&mut loads, &[("outcome", outcome)], &times.snapshot())?;
        }
        if self.view.mesh().is_none() {
            return Ok(());
        }
        let mut frames = durations_of(
            encoder,
            "mesh_frame_duration",
            "How long frames for other nodes took, from the queue of their link to their \
             acknowledgement. One frame at a time is timed on each link.",
        )?;
        write_histogram(&mut frames, &durations.mesh_frames.snapshot())
    }

    fn write_plugins(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(all) = self.view.plugins() else {
            return Ok(());
        };
        let mut plugins = all.all();
        plugins.retain(|plugin| {
            let is_here = plugin.generation().is_some() || plugin.namespace().client_count() > 0;
            is_here && self.caller.may_see(plugin.name())
        });
        let of_each = |encoder: &mut DescriptorEncoder,
                       name: &str,
                       help: &str,
                       unit: Option<&Unit>,
                       value: &dyn Fn(&Plugin) -> Option<i64>| {
            let kind = MetricType::Gauge;
            let mut metric = encoder.encode_descriptor(name, help, unit, kind)?;
            for plugin in &plugins {
                if let Some(value) = value(plugin) {
                    let labels = [("plugin", plugin.name())];
                    metric.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
            Ok::<_, fmt::Error>(())
        };
        of_each(
            encoder,
            "clients",
            "The clients of the plugin on this node.",
            None,
            &|plugin| Some(count(plugin.namespace().client_count())),
        )?;
        of_each(
            encoder,
            "uids",
            "The uids of the plugin's clients on this node.",
            None,
            &|plugin| Some(count(plugin.namespace().name_count(Kind::Uid))),
        )?;
        of_each(
            encoder,
            "groups",
            "The groups of the plugin's clients on this node.",
            None,
            &|plugin| Some(count(plugin.namespace().name_count(Kind::Group))),
        )?;
        of_each(
            encoder,
            "generation",
            "The number of the generation that runs on this node.",
            None,
            &|plugin| plugin.generation().map(count),
        )?;
        of_each(
            encoder,
            "canary_generation",
            "The number of the generation that runs beside that one on this node, for a part of the \
             clients.",
            None,
            &|plugin| plugin.canary_generation().map(count),
        )?;
        of_each(
            encoder,
            "canary_clients",
            "The clients of the plugin on this node that the canary is for.",
            None,
            &|plugin| all.canary_clients(plugin.name()).map(count),
        )?;
        of_each(
            encoder,
            "guest_memory",
            "The memory of all instances of the plugin.",
            Some(&Unit::Bytes),
            &|plugin| Some(count(plugin.guest_memory_bytes())),
        )?;
        let mut instances = encoder.encode_descriptor(
            "instances",
            "The instances of the generation that runs, by whether they are in an event.",
            None,
            MetricType::Gauge,
        )?;
        for plugin in &plugins {
            let (busy, idle) = plugin.instances();
            for (state, number) in [("busy", busy), ("idle", idle)] {
                let labels = [("plugin", plugin.name()), ("state", state)];
                instances
                    .encode_family(&labels)?
                    .encode_gauge(&count(number))?;
            }
        }
        let mut events = durations_of(
            encoder,
            "event_duration",
            "How long events took, by the function that was called and by how it ended: ok, or the \
             kind of the trap, or cancelled.",
        )?;
        for plugin in &plugins {
            for (generation, times) in plugin.event_times() {
                let generation = generation.to_string();
                for (function, outcome, times) in times.by_function() {
                    let labels = [
                        ("plugin", plugin.name()),
                        ("generation", &*generation),
                        ("function", function.as_str()),
                        ("outcome", outcome.as_str()),
                    ];
                    histogram(&mut events, &labels, &times)?;
                }
            }
        }
        Ok(())
    }
}

fn write_mesh(encoder: &mut DescriptorEncoder, mesh: &Mesh) -> fmt::Result {
    let peers = mesh.peers();
    let mut states = encoder.encode_descriptor(
        "peers",
        "The other nodes that this node knows, by their state.",
        None,
        MetricType::Gauge,
    )?;
    for state in PeerState::ALL {
        let number = peers.iter().filter(|peer| peer.state() == Some(state));
        let labels = [("state", state.as_str())];
        let number = count(number.count());
        states.encode_family(&labels)?.encode_gauge(&number)?;
    }
    let (mut frames, mut bytes) = (0, 0);
    let [mut clients, mut uids, mut groups] = [0; 3];
    for peer in &peers {
        let (waiting_frames, waiting_bytes) = peer.waiting();
        frames += waiting_frames;
        bytes += waiting_bytes;
        let held = mesh.interest().sizes(peer.incarnation());
        clients += held.clients;
        uids += held.uids;
        groups += held.groups;
    }
    for (name, help, unit, number) in [
        (
            "link_waiting_frames",
            "The frames on all links that their nodes have not acknowledged yet.",
            None,
            count(frames),
        ),
        (
            "link_waiting",
            "The size of the frames on all links that their nodes have not acknowledged yet.",
            Some(&Unit::Bytes),
            count(bytes),
        ),
        (
            "peer_clients",
            "The clients that other nodes report.",
            None,
            count(clients),
        ),
        (
            "peer_uids",
            "The uids that other nodes report, summed up.",
            None,
            count(uids),
        ),
        (
            "peer_groups",
            "The groups that other nodes report, summed up.",
            None,
            count(groups),
        ),
    ] {
        gauge(encoder, name, help, unit, number)?;
    }
    Ok(())
}

fn durations_of<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)
}

fn histogram(
    metric: &mut MetricEncoder,
    labels: &impl EncodeLabelSet,
    times: &HistogramSnapshot,
) -> fmt::Result {
    write_histogram(&mut metric.encode_family(labels)?, times)
}

fn write_histogram(metric: &mut MetricEncoder, times: &HistogramSnapshot) -> fmt::Result {
    let bound =
        |bound: Option<std::time::Duration>| bound.map_or(f64::INFINITY, |b| b.as_secs_f64());
    let buckets: Vec<_> = times
        .buckets()
        .map(|(end, number)| (bound(end), number))
        .collect();
    let sum = times.sum().as_secs_f64();
    metric.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
}

/// A number as the value of a gauge.
fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
