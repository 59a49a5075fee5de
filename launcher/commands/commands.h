// The commands of `trefoil`, a file of this folder each. What a command is to the program: launcher/command.h.
#pragma once

namespace trefoil {

// `trefoil tokenize` (launcher/commands/tokenize.h).
int TokenizeMain(int argc, char** argv);

// `trefoil images` (launcher/commands/images.h).
int ImagesMain(int argc, char** argv);

// `trefoil launch` (launcher/commands/launch.h).
int LaunchMain(int argc, char** argv);

// `trefoil presets`: lists the configs that are built in with their parameter counts, or prints the one that is named.
int PresetsMain(int argc, char** argv);

// `trefoil plan`: what a run will take, on machines that need not be there.
int PlanMain(int argc, char** argv);

// `trefoil rehearse`: one rank of a large job, alone on this machine.
int RehearseMain(int argc, char** argv);

// `trefoil train`: trains, or goes on with, the run that a config describes. One process per rank.
int TrainMain(int argc, char** argv);

// `trefoil generate`: continues a prompt with a trained model.
int GenerateMain(int argc, char** argv);

// `trefoil predict`: what a trained model says of texts or images.
int PredictMain(int argc, char** argv);

// `trefoil evaluate`: how well a trained model does tasks of given files.
int EvaluateMain(int argc, char** argv);

// `trefoil explain`: what a trained model looks at, as numbers to draw.
int ExplainMain(int argc, char** argv);

// `trefoil import`: a model of others as a run here. `trefoil export`: a trained model as a folder of Hugging Face's.
int ImportMain(int argc, char** argv);
int ExportMain(int argc, char** argv);

// `trefoil checkpoint`: looks after the checkpoints of a run (launcher/checkpoints).
int CheckpointMain(int argc, char** argv);

// `trefoil merge`: a model with low-rank adapters as a plain one.
int MergeMain(int argc, char** argv);

// `trefoil inspect` (launcher/commands/inspect.h).
int InspectMain(int argc, char** argv);

// `trefoil bench`: how fast training steps of a config are on this machine, and where the time goes.
int BenchMain(int argc, char** argv);

// `trefoil calibrate`: measures this machine, for `trefoil plan` to predict with.
int CalibrateMain(int argc, char** argv);

}  // namespace trefoil
