/**
 * One line about each verb, for `wavegate --help`, its own --help and README. Apart from the verbs, so that the list can be shown
 * where a verb cannot be loaded.
 */
export const SUMMARIES = {
  doctor: "show host, adapters, features and limits; run a numeric self-test; measure the adapter's ceilings",
  predict: "recognise words and emotion in recordings of any length, folders of them, or standard input",
  pull: "download models of the Hugging Face Hub into its cache",
  inspect: "show keys, shapes, dtypes and statistics of a safetensors file",
  convert: "write a PyTorch checkpoint (.bin) as safetensors; nothing of it is executed",
  validate: "compare stages and gradients with tensors stored by PyTorch",
  corpus: "make a stand-in for IEMOCAP, join corpora, check or describe one",
  train: "train a system of the paper, or go on with a run",
  average: "write the mean of the weights of models that began with the same",
  evaluate: "measure UA, WA, WER and the confusion matrix of a model on a held-out session",
  crossvalidate: "train and evaluate systems on every fold, on one machine or a cluster, and report them",
  tune: "measure which tiles and workgroups are fastest on this adapter, and remember them",
  profile: "time every kernel of a model, a recognition or a training step; compare two profiles",
  isa: "show what kernels become on GPUs that are not here: registers, spills, inner loops",
  kernel: "check one kernel against float64 and time its variants, of the package or of your own WGSL",
} as const;
