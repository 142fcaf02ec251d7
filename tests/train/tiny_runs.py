"""Settings of runs that take a second or two, for the lists of the tests here: a later override takes precedence."""

SIZES = ["model.n_layer=1", "model.n_head=1", "model.n_embd=8", "model.context_length=64", "batch.size=2"]
EXAMPLES = ["data.train_size=24", "data.validation_size=4", "data.test_size=8"]
ON_CPU = ["trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "callbacks.progress=false"]
WIDER = ["model.n_head=2", "model.n_embd=16"]
CONSTANT_RATE = ["scheduler=constant", "scheduler.warmup_steps=0"]
TINY_RUN = [*SIZES, *EXAMPLES, *ON_CPU]
