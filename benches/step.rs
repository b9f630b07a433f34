//! One guided step on the CPU: the network of the bundle that comes with the program, on the program's own kernels and on the tensor
//! library's.
//!
//! `cargo bench --bench step`; for other programs on the same machine see `benches/README.md`.

use std::hint::black_box;
use std::path::Path;

use burn::tensor::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use pdae_studio::checkpoint::Bundle;
use pdae_studio::model::cpu::Storage;

fn guided_step(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let bundle = Bundle::load(&folder).expect("the default bundle");
    let tensors = bundle.build(&Device::flex()).expect("its networks");
    let model = bundle.build(&Device::flex()).expect("its networks").on_cpu_kernels(Storage::Shorts);
    let (size, latent) = (model.config.image_size, model.config.latent_dim);
    let inputs = |batch: usize| {
        let x = model.tensor(vec![0.1; batch * 3 * size * size], [batch, 3, size, size]);
        (x, model.tensor(vec![0.1; batch * latent], [batch, latent]))
    };
    for batch in [1, 2] {
        let (x, z) = inputs(batch);
        c.bench_function(&format!("guided step, batch {batch}"), |b| {
            b.iter(|| black_box(model.guided(x.clone(), &vec![500; batch], z.clone()).0.into_data()));
        });
    }
    let (x, z) = inputs(1);
    c.bench_function("step of the plain DPM", |b| b.iter(|| black_box(model.noise(x.clone(), &[500]).into_data())));
    c.bench_function("semantic latent", |b| b.iter(|| black_box(model.semantic_latent(x.clone()).into_data())));
    c.bench_function("guided step, tensor library", |b| {
        b.iter(|| black_box(tensors.guided(x.clone(), &[500], z.clone()).0.into_data()));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = guided_step
}
criterion_main!(benches);
