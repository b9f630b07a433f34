//! One guided step on the CPU, batch 1: the network of the bundle that comes with the program.
//!
//! `cargo bench --bench step`; compare with other programs on the same machine only, interleaved.

use std::hint::black_box;
use std::path::Path;

use burn::tensor::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use pdae_studio::checkpoint::Bundle;

fn guided_step(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let bundle = Bundle::load(&folder).expect("the default bundle");
    let model = bundle.build(&Device::flex()).expect("its networks");
    let (size, latent) = (model.config.image_size, model.config.latent_dim);
    let x = model.tensor(vec![0.1; 3 * size * size], [1, 3, size, size]);
    let z = model.tensor(vec![0.1; latent], [1, latent]);
    c.bench_function("guided step, default bundle, CPU", |b| {
        b.iter(|| black_box(model.decoder.forward(x.clone(), &[500], z.clone()).0.into_data()));
    });
    c.bench_function("semantic latent, default bundle, CPU", |b| b.iter(|| black_box(model.semantic_latent(x.clone()).into_data())));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = guided_step
}
criterion_main!(benches);
