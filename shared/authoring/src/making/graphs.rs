//! The graphs of a new bundle: encoder, gate, heads, and the expert that knows good pictures alone.

use super::MakeError;
use super::backbone::{Backbone, BackboneError, Map};
use super::extracting::{IMAGE, TEMPLATE};
use crate::linear::{Head, Whitening};
use crate::onnx::{GraphBuilder, Value};

/// A backbone at one size, with what it gives there.
#[derive(Debug, Clone)]
pub(super) struct Sized<'a> {
    pub(super) backbone: &'a Backbone,
    pub(super) size: usize,
    pub(super) maps: Vec<Map>,
}

/// Numbers for each channel of a map by which a picture is compared with its template.
const COMPARED: usize = 5;

impl<'a> Sized<'a> {
    pub(super) fn new(backbone: &'a Backbone, size: usize) -> Result<Self, BackboneError> {
        Ok(Self { backbone, size, maps: backbone.maps(size)? })
    }

    fn channels(&self) -> usize {
        self.maps.iter().map(|map| map.channels).sum()
    }

    /// Width of the embedding: mean and highest of each channel.
    pub(super) fn dims(&self) -> usize {
        2 * self.channels()
    }

    /// Width of the features by which a picture is compared with its template.
    pub(super) fn compared_dims(&self) -> usize {
        COMPARED * self.channels()
    }

    /// Height and width of the patches: those of the largest map.
    pub(super) fn places(&self) -> (usize, usize) {
        let largest = self.maps.iter().max_by_key(|map| map.height * map.width);
        largest.map_or((0, 0), |map| (map.height, map.width))
    }

    /// Numbers of each patch.
    pub(super) fn patch_dims(&self) -> usize {
        self.channels()
    }

    fn picture_shape(&self) -> [usize; 3] {
        [self.backbone.channels, self.size, self.size]
    }

    /// A picture to its embedding.
    pub(super) fn encoder(&self) -> Result<Vec<u8>, MakeError> {
        let mut graph = self.backbone.graph("encoder");
        let image = graph.input(IMAGE, &self.picture_shape());
        let (_, maps) = self.backbone.taken_in(&mut graph, &image, None)?;
        let embedding = pooled(&mut graph, &maps);
        graph.output(&embedding, "embedding", &[self.dims()]);
        Ok(graph.finish())
    }

    /// A picture and its template to the features by which they are compared, and to logits where there is a head.
    pub(super) fn comparer(&self, head: Option<&Head>) -> Result<Vec<u8>, MakeError> {
        let mut graph = self.backbone.graph("comparer");
        let differences = self.looked_at(&mut graph, true)?;
        let mut numbers = Vec::new();
        for difference in differences {
            let (inverse, size) = (graph.neg(&difference), graph.abs(&difference));
            let highest = graph.max(&difference);
            let lowest = graph.max(&inverse);
            numbers.extend([highest, lowest, graph.mean(&difference), graph.mean(&size), graph.max(&size)]);
        }
        let features = graph.concat(&numbers.iter().collect::<Vec<_>>());
        if let Some(head) = head {
            let logits = headed(&mut graph, &features, self.compared_dims(), head);
            graph.output(&logits, "logits", &[head.classes()]);
        }
        graph.output(&features, "feat", &[self.compared_dims()]);
        Ok(graph.finish())
    }

    /// The maps of a picture, or where there is a template what they differ by from those of the template.
    fn looked_at(&self, graph: &mut GraphBuilder, with_template: bool) -> Result<Vec<Value>, MakeError> {
        let image = graph.input(IMAGE, &self.picture_shape());
        if !with_template {
            return Ok(self.backbone.taken_in(graph, &image, None)?.1);
        }
        let template = graph.input(TEMPLATE, &self.picture_shape());
        let (shared, seen) = self.backbone.taken_in(graph, &image, None)?;
        let (_, expected) = self.backbone.taken_in(graph, &template, Some(&shared))?;
        Ok(seen.iter().zip(&expected).map(|(seen, expected)| graph.sub(seen, expected)).collect())
    }

    /// A picture to its patches, `[N, channels, height, width]`: each map averaged over three by three places, the smaller
    /// ones enlarged.
    pub(super) fn patches(&self, with_template: bool) -> Result<Vec<u8>, MakeError> {
        let mut graph = self.backbone.graph("patches");
        let maps = self.looked_at(&mut graph, with_template)?;
        let patches = self.patched(&mut graph, &maps)?;
        let (height, width) = self.places();
        graph.output(&patches, "patches", &[self.patch_dims(), height, width]);
        Ok(graph.finish())
    }

    fn patched(&self, graph: &mut GraphBuilder, maps: &[Value]) -> Result<Value, MakeError> {
        let (height, width) = self.places();
        let mut parts = Vec::new();
        for (map, value) in self.maps.iter().zip(maps) {
            let times = height / map.height.max(1);
            if times * map.height != height || times * map.width != width {
                let message = format!(
                    "`{}` is {}x{} at {} pixels, which {height}x{width} is no multiple of: take another --size",
                    map.name, map.height, map.width, self.size
                );
                return Err(MakeError::Picture { path: self.backbone.path.clone(), message });
            }
            let smooth = graph.average_3x3(value);
            parts.push(if times > 1 { graph.enlarge(&smooth, times) } else { smooth });
        }
        Ok(graph.concat(&parts.iter().collect::<Vec<_>>()))
    }

    /// A picture to how far each of its patches is from good ones, and to the labels `good` and `anomalous`.
    pub(super) fn detector(&self, detector: &Detector, with_template: bool) -> Result<Vec<u8>, MakeError> {
        let mut graph = self.backbone.graph("detector");
        let maps = self.looked_at(&mut graph, with_template)?;
        let patches = self.patched(&mut graph, &maps)?;
        let dims = self.patch_dims();
        let weight = graph.float(&[dims, dims, 1, 1], &detector.whitening.weight);
        let bias = graph.float(&[dims], &detector.whitening.bias);
        let white = graph.conv_1x1(&patches, &weight, Some(&bias));
        let squares = graph.mul(&white, &white);
        let length = graph.sum_channels(&squares);
        let squared = match &detector.bank {
            None => length,
            Some(bank) => {
                let count = bank.len() / dims;
                let doubled: Vec<f32> = bank.iter().map(|value| -2.0 * value).collect();
                let weight = graph.half(&[count, dims, 1, 1], &doubled);
                let bias = graph.float(&[count], &squared_lengths(bank, dims));
                let products = graph.conv_1x1(&white, &weight, Some(&bias));
                let nearest = graph.min_channels(&products);
                let squared = graph.add(&length, &nearest);
                // Rounding must not leave a number below 0 under the root.
                graph.relu(&squared)
            }
        };
        let map = graph.sqrt(&squared);
        // A picture is as far from good ones as its farthest patch.
        let score = graph.max(&map);
        let scaled = 1.0 / detector.scale;
        let weight = graph.float(&[1, 2], &[(-0.5 * scaled) as f32, (0.5 * scaled) as f32]);
        let middle = 0.5 * detector.threshold * scaled;
        let bias = graph.float(&[2], &[middle as f32, -middle as f32]);
        let logits = graph.gemm(&score, &weight, &bias);
        graph.output(&logits, "logits", &[2]);
        let features = pooled(&mut graph, &maps);
        graph.output(&features, "feat", &[self.dims()]);
        let (height, width) = self.places();
        graph.output(&map, "fmap", &[1, height, width]);
        Ok(graph.finish())
    }
}

/// What knows good patches.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    pub(super) whitening: Whitening,
    /// Whitened good patches, one after the other, rounded to FP16: a patch is as far as the nearest of them; without any, as
    /// far as their mean.
    pub(super) bank: Option<Vec<f32>>,
    /// A picture whose score is this is `anomalous` with probability one half.
    pub(super) threshold: f64,
    /// The score by which the logit grows by one.
    pub(super) scale: f64,
}

/// Squared length of each of the vectors that stand one after the other.
pub(super) fn squared_lengths(vectors: &[f32], dims: usize) -> Vec<f32> {
    vectors.chunks_exact(dims.max(1)).map(|vector| vector.iter().map(|value| value * value).sum()).collect()
}

/// Mean and highest of each channel of each map.
fn pooled(graph: &mut GraphBuilder, maps: &[Value]) -> Value {
    let mut numbers = Vec::new();
    for map in maps {
        numbers.extend([graph.mean(map), graph.max(map)]);
    }
    graph.concat(&numbers.iter().collect::<Vec<_>>())
}

fn headed(graph: &mut GraphBuilder, features: &Value, dims: usize, head: &Head) -> Value {
    let weight = graph.float(&[dims, head.classes()], &head.weight);
    let bias = graph.float(&[head.classes()], &head.bias);
    graph.gemm(features, &weight, &bias)
}

/// An embedding to logits.
pub(super) fn head(dims: usize, head: &Head) -> Vec<u8> {
    let mut graph = GraphBuilder::new("head");
    let embedding = graph.input(millgate_model::manifest::EMBEDDING, &[dims]);
    let logits = headed(&mut graph, &embedding, dims, head);
    graph.output(&logits, "logits", &[head.classes()]);
    graph.output(&embedding, "feat", &[dims]);
    graph.finish()
}

/// A gate that has one expert to choose, and finds it as good as any: its logit is 0.
pub(super) fn gate(dims: usize, modalities: usize) -> Vec<u8> {
    let mut graph = GraphBuilder::new("gate");
    let [embeddings, presence] = millgate_mixture::inputs::GATE_INPUTS;
    let embeddings = graph.input(embeddings, &[1, dims]);
    let presence = graph.input(presence, &[modalities]);
    let flat = graph.flat(&embeddings);
    let all = graph.concat(&[&flat, &presence]);
    let inputs = dims + modalities;
    let weight = graph.float(&[inputs, 1], &vec![0.0; inputs]);
    let bias = graph.float(&[1], &[0.0]);
    let scores = graph.gemm(&all, &weight, &bias);
    graph.output(&scores, "scores", &[1]);
    graph.finish()
}
