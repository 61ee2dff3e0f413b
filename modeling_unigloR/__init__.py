"""UniGloR: sign languages from body keypoints, without glosses.

Importing this package registers its models with transformers' Auto classes, and its pipelines.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_uniglor import SignMAEConfig, SignToTextConfig
from .keypoint_processing_uniglor import Calibration, KeypointProcessor, ProcessedClip, map_layout
from .keypoint_readers_uniglor import KeypointClip, clip_from_array, read_keypoints, read_skels
from .keypoint_weighting_uniglor import keypoint_weights, part_variances
from .keypoints_uniglor import LAYOUTS, SOURCE_LAYOUTS, adjacency
from .modeling_sign_mae import SignMAE, SignMAEEncoderModel, SignMAEOutput
from .modeling_sign_to_text import SignToText, SignToTextOutput
from .pipelines_uniglor import SignToTextPipeline
from .streaming_uniglor import SignToTextStreamer

for config, model in ((SignMAEConfig, SignMAE), (SignToTextConfig, SignToText)):
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
    AutoFeatureExtractor.register(config, KeypointProcessor)
PIPELINE_REGISTRY.register_pipeline("sign-to-text", pipeline_class=SignToTextPipeline, pt_model=AutoModel, type="multimodal")

__all__ = [
    "LAYOUTS",
    "SOURCE_LAYOUTS",
    "Calibration",
    "KeypointClip",
    "KeypointProcessor",
    "ProcessedClip",
    "SignMAE",
    "SignMAEConfig",
    "SignMAEEncoderModel",
    "SignMAEOutput",
    "SignToText",
    "SignToTextConfig",
    "SignToTextOutput",
    "SignToTextPipeline",
    "SignToTextStreamer",
    "adjacency",
    "clip_from_array",
    "keypoint_weights",
    "map_layout",
    "part_variances",
    "read_keypoints",
    "read_skels",
]
