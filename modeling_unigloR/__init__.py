"""UniGloR: sign languages from body keypoints, without glosses.

Importing this package registers its models with transformers' Auto classes, and its pipelines.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_uniglor import SignMAEConfig, SignRecognitionConfig, SignToTextConfig, TextToSignConfig
from .keypoint_processing_uniglor import Calibration, KeypointProcessor, ProcessedClip, map_layout
from .keypoint_readers_uniglor import KeypointClip, clip_from_array, read_keypoints, read_skels
from .keypoint_weighting_uniglor import keypoint_weights, part_variances
from .keypoints_uniglor import LAYOUTS, SOURCE_LAYOUTS, adjacency
from .modeling_sign_mae import SignMAE, SignMAEDecoderModel, SignMAEEncoderModel, SignMAEOutput
from .modeling_sign_recognition import SignRecognition
from .modeling_sign_to_text import SignToText, SignToTextOutput
from .modeling_text_to_sign import GeneratedSigning, LengthRegulator, TextToSign, TextToSignOutput
from .pipelines_uniglor import SignRecognitionPipeline, SignToTextPipeline, TextToSignPipeline
from .streaming_uniglor import SignToTextStreamer

for config, model in (
    (SignMAEConfig, SignMAE),
    (SignToTextConfig, SignToText),
    (TextToSignConfig, TextToSign),
    (SignRecognitionConfig, SignRecognition),
):
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
    AutoFeatureExtractor.register(config, KeypointProcessor)
AutoModelForSequenceClassification.register(SignRecognitionConfig, SignRecognition)
PIPELINE_REGISTRY.register_pipeline("sign-to-text", pipeline_class=SignToTextPipeline, pt_model=AutoModel, type="multimodal")
PIPELINE_REGISTRY.register_pipeline("text-to-sign", pipeline_class=TextToSignPipeline, pt_model=AutoModel, type="text")
PIPELINE_REGISTRY.register_pipeline("sign-recognition", pipeline_class=SignRecognitionPipeline, pt_model=AutoModel, type="multimodal")

__all__ = [
    "LAYOUTS",
    "SOURCE_LAYOUTS",
    "Calibration",
    "GeneratedSigning",
    "KeypointClip",
    "KeypointProcessor",
    "LengthRegulator",
    "ProcessedClip",
    "SignMAE",
    "SignMAEConfig",
    "SignMAEDecoderModel",
    "SignMAEEncoderModel",
    "SignMAEOutput",
    "SignRecognition",
    "SignRecognitionConfig",
    "SignRecognitionPipeline",
    "SignToText",
    "SignToTextConfig",
    "SignToTextOutput",
    "SignToTextPipeline",
    "SignToTextStreamer",
    "TextToSign",
    "TextToSignConfig",
    "TextToSignOutput",
    "TextToSignPipeline",
    "adjacency",
    "clip_from_array",
    "keypoint_weights",
    "map_layout",
    "part_variances",
    "read_keypoints",
    "read_skels",
]
