//! The memory of each node, at each barrier: it has to stay flat.

use std::time::Instant;

use anyhow::{Result, ensure};

/// What belongs to the warm-up: caches, pools and the allocator's arenas fill.
const WARM_UP: f64 = 0.25;

/// Fewer samples than that show no trend.
const SAMPLES: usize = 16;

/// The share by which the end may be above the beginning, and what may be added to it.
const SHARE: f64 = 0.15;
const MORE_BYTES: f64 = 8e6;

/// What each node has had.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Vec<Life>);

/// One run of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    began: Option<Instant>,
    /// Minutes since its beginning, and bytes.
    samples: Vec<(f64, f64)>,
}

impl Memory {
    pub(crate) fn new(nodes: usize) -> Memory {
        Memory(vec![Life::default(); nodes])
    }

    /// A node has started: what was before does not count.
    pub(crate) fn begin_life(&mut self, node: usize) {
        self.0[node] = Life {
            began: Some(Instant::now()),
            samples: Vec::new(),
        };
    }

    pub(crate) fn add(&mut self, node: usize, bytes: u64) {
        let life = &mut self.0[node];
        let age = life
            .began
            .map_or(0.0, |began| began.elapsed().as_secs_f64() / 60.0);
        // Exact for up to 2^53 bytes.
        #[expect(clippy::cast_precision_loss, reason = "no node has as many bytes")]
        life.samples.push((age, bytes as f64));
    }

    pub(crate) fn lives(&self) -> &[Life] {
        &self.0
    }

    /// Fails if the memory of a node has grown.
    pub(crate) fn check(&self) -> Result<()> {
        for (node, life) in self.0.iter().enumerate() {
            let Some([before, after]) = life.means() else {
                continue;
            };
            ensure!(
                after <= before * (1.0 + SHARE) + MORE_BYTES,
                "the memory of node {node} grows: {before:.0} bytes after the warm-up, and \
                 {after:.0} at the end; samples: {:.1?}",
                life.samples
            );
        }
        Ok(())
    }
}

impl Life {
    /// In megabytes: the first sample, the last one, and the highest.
    pub(crate) fn megabytes(&self) -> Option<[f64; 3]> {
        let bytes = self.samples.iter().map(|(_, bytes)| bytes / 1e6);
        let (first, last) = (bytes.clone().next()?, bytes.clone().next_back()?);
        Some([first, last, bytes.fold(0.0, f64::max)])
    }

    /// Megabytes per minute, as a line through all samples after the warm-up has it.
    pub(crate) fn growth(&self) -> Option<f64> {
        let samples = self.after_warm_up()?;
        let count = f64::from(u32::try_from(samples.len()).ok()?);
        let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
        let (at, bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let products = samples.iter().map(|(a, b)| (a - at) * (b - bytes));
        let squares = samples.iter().map(|(a, _)| (a - at) * (a - at));
        Some(products.sum::<f64>() / squares.sum::<f64>() / 1e6)
    }

    /// The first third after the warm-up, and the last one.
    fn means(&self) -> Option<[f64; 2]> {
        let samples = self.after_warm_up()?;
        let third = samples.len() / 3;
        let mean = |samples: &[(f64, f64)]| {
            let count = f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX));
            samples.iter().map(|(_, bytes)| bytes).sum::<f64>() / count
        };
        Some([
            mean(&samples[..third]),
            mean(&samples[samples.len() - third..]),
        ])
    }

    fn after_warm_up(&self) -> Option<&[(f64, f64)]> {
        let (last, _) = self.samples.last()?;
        let warm = self.samples.partition_point(|(at, _)| *at < last * WARM_UP);
        (self.samples.len() >= SAMPLES).then(|| &self.samples[warm..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(samples: usize, bytes: impl Fn(f64) -> f64) -> Memory {
        let minutes = (0..samples).map(|sample| f64::from(u32::try_from(sample).unwrap()));
        let samples = minutes.map(|minute| (minute, bytes(minute))).collect();
        Memory(vec![Life {
            began: None,
            samples,
        }])
    }

    #[test]
    fn a_leak_is_found_and_a_warm_up_is_none() {
        let leak = memory(30, |minute| 100e6 + minute * 2e6);
        assert!(leak.check().is_err());
        let growth = leak.lives()[0].growth().unwrap();
        assert!((growth - 2.0).abs() < 1e-6, "{growth}");

        let warm_up = memory(30, |minute| 100e6 + minute.min(5.0) * 20e6);
        assert!(warm_up.check().is_ok());
        assert!(warm_up.lives()[0].growth().unwrap().abs() < 1e-6);
        assert_eq!(warm_up.lives()[0].megabytes(), Some([100.0, 200.0, 200.0]));

        let waves = memory(30, |minute| 100e6 + (minute % 3.0) * 5e6);
        assert!(waves.check().is_ok());
        assert_eq!(memory(5, |_| 1.0).lives()[0].growth(), None);
    }
}
