"""The systems that the paper compares with, re-implemented from their papers: docs/baselines.md says what was chosen where those are open.

They are baselines, and no part of the package: their checkpoints load where this package was imported, which registers them with
transformers' Auto classes.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from experiments.baselines.conslt import ConSLT, ConSLTConfig
from experiments.baselines.glofe import GloFE, GloFEConfig
from experiments.baselines.joint_slt import JointSLT, JointSLTConfig
from experiments.baselines.nslpg import NSLPG, NSLPGConfig, SpatialVAE, SpatialVAEConfig
from experiments.baselines.progressive_transformer import ProgressiveTransformer, ProgressiveTransformerConfig
from modeling_unigloR import KeypointProcessor

MODELS = {
    JointSLTConfig: JointSLT, ConSLTConfig: ConSLT, GloFEConfig: GloFE, ProgressiveTransformerConfig: ProgressiveTransformer,
    NSLPGConfig: NSLPG, SpatialVAEConfig: SpatialVAE,
}  # fmt: skip
for config, model in MODELS.items():
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
    AutoFeatureExtractor.register(config, KeypointProcessor)
